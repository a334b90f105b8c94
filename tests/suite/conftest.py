"""A run that the tests of this room share, trained once, and no hub."""

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
