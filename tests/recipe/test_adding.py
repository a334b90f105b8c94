"""Adding a masking, a recipe or an optimiser is one entry: each is added here, and trains."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from unmask.diffusion.masking import MASKINGS, Masking
from unmask.diffusion.time import Uniform
from unmask.recipe.objective import Denoising
from unmask.recipe.parse import RECIPES, parse_recipe
from unmask.recipe.recipe import Recipe
from unmask.run import open_run
from unmask.train.config import TrainConfig
from unmask.train.optim import OPTIMIZERS

Call = Callable[..., tuple[int, str]]


@dataclass(frozen=True)
class Stripes(Masking):
    """Every ``period`` tokens together, with probability t."""

    period: int = 4

    def mask(self, t: Tensor, u: Tensor, valid: Tensor | None) -> Tensor:
        """By the noise of a stripe's first token."""
        first = torch.arange(u.shape[1]) // self.period * self.period
        mask = u[:, first] < t[:, None]
        return mask if valid is None else mask & valid


def trains(unmask: Call, small: list[str], run: Path, *options: object) -> None:
    status, text = unmask("train", "--run", run, *small, "--train.steps", 2, *options)
    assert status == 0, text


def test_a_masking_with_a_parameter(
    monkeypatch: pytest.MonkeyPatch, unmask: Call, small: list[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(MASKINGS, "stripes", Stripes)
    recipe = parse_recipe("bell:masking=stripes,period=8")
    assert isinstance(recipe.main, Denoising) and recipe.main.masking == Stripes(8)
    assert parse_recipe(recipe.spec()) == recipe
    trains(unmask, small, tmp_path / "run", "--recipe", "bell:masking=stripes,period=8")
    assert "masking=stripes,period=8" in open_run(tmp_path / "run").config.recipe


def test_a_published_recipe(
    monkeypatch: pytest.MonkeyPatch, unmask: Call, small: list[str], tmp_path: Path
) -> None:
    new = Recipe("half", Denoising(Uniform(0.5, 1.0), weight="1/t"))
    monkeypatch.setitem(RECIPES, "half", new)
    assert parse_recipe("half:low=0.4").main == dataclasses.replace(new.main, time=Uniform(0.4, 1))  # type: ignore[type-var]
    trains(unmask, small, tmp_path / "run", "--recipe", "half")


def test_an_optimiser(
    monkeypatch: pytest.MonkeyPatch, unmask: Call, small: list[str], tmp_path: Path
) -> None:
    def sgd(model: nn.Module, config: TrainConfig) -> list[torch.optim.Optimizer]:
        return [torch.optim.SGD(model.parameters(), lr=config.learning_rate, momentum=0.9)]

    monkeypatch.setitem(OPTIMIZERS, "sgd", sgd)
    trains(unmask, small, tmp_path / "run", "--train.optimizer", "sgd")
    assert open_run(tmp_path / "run").config.train.optimizer == "sgd"
