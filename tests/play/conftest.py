"""Tiny runs that the page can show: a denoiser of each kind and an autoregressive one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from unmask.run import Run, open_run

Call = Callable[..., tuple[int, str]]
Trained = Callable[[str], Run]


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Path], Path]:
    """Folders of what is trained already, and where more goes."""
    return {}, tmp_path_factory.mktemp("play")


@pytest.fixture
def trained(kept: tuple[dict[str, Path], Path], small: list[str], unmask: Call) -> Trained:
    """A run of a recipe on bytes and blocks of 32, trained for 30 steps the first time."""
    folders, parent = kept

    def train(recipe: str) -> Run:
        if recipe not in folders:
            options = ["--train.steps", 30, "--validation.every", 30, "--recipe", recipe]
            folder = parent / recipe.replace("=", "-")
            status, text = unmask("train", "--run", folder, *small, *options)
            assert status == 0, text
            folders[recipe] = folder
        return open_run(folders[recipe])

    return train


@pytest.fixture
def run(trained: Trained) -> Run:
    return trained("standard")
