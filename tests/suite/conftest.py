"""Tiny masked language models of `transformers`, with random weights, saved in folders."""

import pytest
import torch

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "one", "big", "dog", "run", "far"]


def save_tokenizer(folder, mask=True):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *(["[MASK]"] if mask else [])]
    vocabulary = {word: i for i, word in enumerate([*special, *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {f"{n.strip('[]').lower()}_token": n for n in special}
    PreTrainedTokenizerFast(tokenizer_object=backend, **names).save_pretrained(folder)
    return vocabulary


def configuration(kind):
    import transformers

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    tokens = {"vocab_size": 20, "pad_token_id": 0}
    shapes = {
        "Bert": {**sizes, "intermediate_size": 32, "max_position_embeddings": 40},
        "Roberta": {**sizes, "intermediate_size": 32, "max_position_embeddings": 41},
        "ModernBert": {**sizes, "intermediate_size": 32, "max_position_embeddings": 40},
        "DistilBert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    }
    if kind == "ModernBert":
        tokens |= {"cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
    config = getattr(transformers, f"{kind}Config")(**shapes[kind], **tokens)
    config.initializer_range = 0.5  # an opinion
    return config


@pytest.fixture
def masked_lm(tmp_path):
    """Make a folder: kind -> (the folder, the model as it was saved)."""

    def make(kind="Bert", mask=True):
        import transformers

        folder = tmp_path / kind
        save_tokenizer(folder, mask)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = getattr(transformers, f"{kind}ForMaskedLM")(configuration(kind)).eval()
        network.save_pretrained(folder)
        return folder, network

    return make
