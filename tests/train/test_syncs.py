"""No step waits for the device: nothing is read back from it between two log lines."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from unmask.train.batch import Batch, draw_batches

Call = Callable[..., tuple[int, str]]


class Operations(TorchDispatchMode):
    """Counts what the device is asked to do."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        self.count[function.overloadpacket.__name__] += 1
        return function(*args, **(kwargs or {}))


def operations(unmask: Call, options: list[object], run: Path, steps: int) -> Counter[str]:
    """Operations of a run that logs, evaluates and saves at its start and its end alone."""
    seldom = ["--train.log-every", 1000, "--validation.every", 1000, "--train.steps", steps]
    with Operations() as seen:
        status, text = unmask("train", "--run", run, *options, *seldom)
    assert status == 0, text
    return seen.count


def per_step(unmask: Call, options: list[object], folder: Path) -> Counter[str]:
    """Operations of four steps in the midst of training."""
    few = operations(unmask, options, folder / "few", 3)
    many = operations(unmask, options, folder / "many", 7)
    many.subtract(few)
    return many


def drawn_apart(bounded: bool) -> Callable[..., list[Batch]]:
    """`draw_batches` uncounted, for it works on the CPU, as an option with a GPU's bounds.

    That it reads nothing back from a device either, `test_batch` shows.
    """

    def draw(*args: Any, **kwargs: Any) -> list[Batch]:
        with _disable_current_modes():
            batches = list(draw_batches(*args, **kwargs))
            there = list(draw_batches(*args, **{**kwargs, "device": torch.device("meta")}))
        bounds = [batch.bounds if bounded else None for batch in there]
        return [dataclasses.replace(b, bounds=n) for b, n in zip(batches, bounds, strict=True)]

    return draw


@pytest.mark.parametrize("optimizer", [pytest.param("adamw", marks=pytest.mark.slow), "muon"])
@pytest.mark.parametrize("late", [0, 1])
def test_a_step_reads_nothing_back(
    late: int,
    optimizer: str,
    unmask: Call,
    small: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither a number nor a shape that depends on one, where positions are bounded."""
    monkeypatch.setattr("unmask.train.loop.draw_batches", drawn_apart(bounded=True))
    options = [*small, "--train.optimizer", optimizer, "--train.ema", 0.9]
    options += ["--train.accumulation", 2, "--recipe", "bell:masking=fixed-count"]
    options += ["--model.late", late]
    seen = per_step(unmask, options, tmp_path)
    assert seen["_local_scalar_dense"] == seen["nonzero"] == 0
    assert seen["_scaled_dot_product_flash_attention_for_cpu"] == 4 * 2 * 2  # it does count


def test_independent_masks_are_counted_once_in_a_micro_batch(
    unmask: Call, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unmask.train.loop.draw_batches", drawn_apart(bounded=False))
    seen = per_step(unmask, [*small, "--train.accumulation", 2], tmp_path)
    assert seen["_local_scalar_dense"] == 0
    assert seen["nonzero"] == 4 * 2
