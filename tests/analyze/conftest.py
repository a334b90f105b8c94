"""A small comparison, trained once for all tests of the studies."""

import random
from pathlib import Path

import pytest

from in_process import train_here
from unmask.cli import main


@pytest.fixture(scope="session")
def comparison_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recipes and the twin, 20 steps, every checkpoint kept; not to be changed."""
    root = tmp_path_factory.mktemp("studied")
    texts = root / "texts"
    texts.mkdir()
    chance = random.Random(0)
    words = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "one", "big", "dog"] * 7
    for number in range(60):
        start = chance.randrange(11)
        (texts / f"{number:03}.txt").write_text(" ".join(words[start : start + 60]))
    patch = pytest.MonkeyPatch()
    patch.setenv("UNMASK_CACHE", str(root / "cache"))
    train_here(patch)
    patch.setattr("unmask.plot.figure.draw", lambda *_: [])
    options = ["--corpus.source", str(texts), "--corpus.block-size", "32", "--model.layers", "1"]
    options += ["--model.width", "32", "--model.heads", "2", "--train.batch-size", "8"]
    options += ["--train.steps", "20", "--validation.every", "5", "--train.keep", "9"]
    options += ["--validation.blocks", "16", "--train.device", "cpu", "--train.warmup-steps", "2"]
    options += ["--train.learning-rate", "0.01", "--train.precision", "fp32"]
    options += ["--recipes", "standard,bell,ar", "--jobs", "2"]
    status = main(["compare", "--run", str(root / "cmp"), *options])
    patch.undo()
    assert status == 0
    return root / "cmp"
