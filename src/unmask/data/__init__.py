"""Corpora, tokenizers, packing into blocks, and the order in which training reads them."""
