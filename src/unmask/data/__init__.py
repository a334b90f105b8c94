"""Corpora, tokenizers, packing into blocks, and the order in which training reads them."""

from typing import TYPE_CHECKING

from unmask.base.front import on_demand

if TYPE_CHECKING:
    from unmask.data.blocks import Blocks
    from unmask.data.config import CorpusConfig
    from unmask.data.load import Data, load_data
    from unmask.data.order import sample_blocks
    from unmask.data.tokenizers import Tokenizer, saved_tokenizer

__all__ = [
    "Blocks",
    "CorpusConfig",
    "Data",
    "Tokenizer",
    "load_data",
    "sample_blocks",
    "saved_tokenizer",
]

__getattr__ = on_demand(__name__, "config", "tokenizers", "order", "blocks", "load")
