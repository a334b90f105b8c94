"""Tiny pretrained networks of `transformers`, with a tokenizer of bytes, as local folders."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    BertConfig,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    ModernBertConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

END = 256
LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "initializer_range": 0.2,  # attention that matters
    "bos_token_id": END,
    "eos_token_id": END,
}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128, "initializer_range": 0.2}
BERT = {
    "vocab_size": 261,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
    "pad_token_id": 260,
}
CONFIGS: dict[str, Any] = {
    "llama": lambda: LlamaConfig(vocab_size=257, tie_word_embeddings=True, **LLAMA),
    "llama-untied": lambda: LlamaConfig(vocab_size=257, tie_word_embeddings=False, **LLAMA),
    "qwen2": lambda: Qwen2Config(vocab_size=320, **LLAMA),  # rows that no token has
    "qwen3": lambda: Qwen3Config(vocab_size=257, head_dim=16, **LLAMA),
    "gpt2": lambda: GPT2Config(vocab_size=257, bos_token_id=END, eos_token_id=END, **GPT2),
    "mamba": lambda: MambaConfig(vocab_size=257, hidden_size=32, num_hidden_layers=2),
    "bert": lambda: BertConfig(**BERT),
    "modernbert": lambda: ModernBertConfig(
        **BERT, cls_token_id=257, sep_token_id=258, global_attn_every_n_layers=1
    ),
}
CAUSAL = ("llama", "llama-untied", "qwen2", "qwen3", "gpt2")
MASKED = ("bert", "modernbert")


def make(kind: str, folder: Path, seed: int = 0) -> Path:
    """Write a network of that kind, with random weights, and its tokenizer."""
    masked = kind in MASKED
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        maker: Any = AutoModelForMaskedLM if masked else AutoModelForCausalLM
        maker.from_config(CONFIGS[kind]()).save_pretrained(folder)
    alphabet = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=backend)
    fast.add_special_tokens({"eos_token": "<|end|>"})
    if masked:
        names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
        fast.add_special_tokens({**names, "pad_token": "[PAD]"})
    fast.save_pretrained(folder)
    return folder
