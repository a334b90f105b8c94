"""Runs that the tests of this room share, tiny masked language models in folders, and no hub."""

import random
from pathlib import Path

import datasets
import huggingface_hub.constants
import pytest
import torch

from unmask.cli import main
from unmask.run import Run, open_run

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "one", "big", "dog", "run", "far"]


@pytest.fixture(scope="session", autouse=True)
def offline(tmp_path_factory: pytest.TempPathFactory):
    """Set the libraries' constants: they read the environment once, when they are imported."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("hf")
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        patch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "datasets")
        yield


def trained(folder: Path, recipe: str, packing: str = "wrap") -> Path:
    """A run of a second on parts of one rhyme: 2 layers of 32, bytes, blocks of 32."""
    texts = folder / "texts"
    texts.mkdir()
    chance = random.Random(0)
    for number in range(300):
        start, words = chance.randrange(len(WORDS)), chance.randrange(3, 14)
        (texts / f"{number:03}.txt").write_text(" ".join((WORDS * 6)[start : start + words]))
    options = [
        *("--corpus.source", str(texts), "--corpus.block-size", "32", "--corpus.packing", packing),
        *("--model.layers", "2", "--model.width", "32", "--model.heads", "2"),
        *("--train.steps", "40", "--train.batch-size", "8", "--train.warmup-steps", "2"),
        *("--train.device", "cpu", "--train.precision", "fp32", "--train.optimizer", "adamw"),
        *("--train.learning-rate", "0.01", "--validation.blocks", "8", "--validation.draws", "2"),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNMASK_CACHE", str(folder / "cache"))
        torch.set_num_threads(1)
        assert main(["train", "--run", str(folder / "run"), "--recipe", recipe, *options]) == 0
    return folder / "run"


@pytest.fixture(scope="session")
def denoiser(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A masked diffusion model."""
    return open_run(trained(tmp_path_factory.mktemp("denoiser"), "bell"))


@pytest.fixture(scope="session")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Its autoregressive twin."""
    return open_run(trained(tmp_path_factory.mktemp("causal"), "ar"))


@pytest.fixture(scope="session")
def padded(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A model of blocks that hold one document each."""
    return open_run(trained(tmp_path_factory.mktemp("padded"), "bell", "pad"))


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
