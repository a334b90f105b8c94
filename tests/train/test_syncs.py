"""No step waits for the device: nothing is read back from it between two log lines."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from unmask.recipe import parse_recipe
from unmask.train.batch import Batch, draw_batch

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


def drawn_as_for_a_gpu(recipe: Any, *args: Any) -> Batch:
    """`draw_batch` with the bounds that other devices than a CPU get."""
    batch = draw_batch(recipe, *args)
    b, length = batch.x.shape
    most = recipe.most_predicted(slots=torch.arange(b), batch_size=b, length=length)
    return dataclasses.replace(batch, most=most)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_step_reads_nothing_back(
    optimizer: str,
    unmask: Call,
    small: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither a number nor a shape that depends on one, where the masked positions are bounded."""
    monkeypatch.setattr("unmask.train.loop.draw_batch", drawn_as_for_a_gpu)
    options = [*small, "--train.optimizer", optimizer, "--train.ema", 0.9]
    options += ["--train.accumulation", 2, "--recipe", "bell:masking=fixed-count"]
    seen = per_step(unmask, options, tmp_path)
    assert seen["_local_scalar_dense"] == seen["nonzero"] == 0
    assert seen["_scaled_dot_product_flash_attention_for_cpu"] == 4 * 2 * 2  # it does count


def test_independent_masks_are_counted_once_in_a_micro_batch(
    unmask: Call, small: list[str], tmp_path: Path
) -> None:
    seen = per_step(unmask, [*small, "--train.accumulation", 2], tmp_path)
    assert seen["_local_scalar_dense"] == 0
    assert seen["nonzero"] == 4 * 2


def test_other_devices_than_a_cpu_get_bounds() -> None:
    """Shown on torch's device without data, on which reading anything back is an error."""
    from test_batch import blocks

    recipe = parse_recipe("bell-weighted:masking=fixed-count")
    batch = draw_batch(recipe, blocks(True), 0, 0, 16, torch.device("meta"))
    assert batch.x.is_meta and batch.weights.is_meta and batch.u.is_meta
    assert batch.most is not None and not batch.most.is_meta
    assert sum(int(part.most.sum()) for part in batch.split(3)) == int(batch.most.sum())
    assert draw_batch(recipe, blocks(True), 0, 0, 16, torch.device("cpu")).most is None
