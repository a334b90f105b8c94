"""Steps whose gradient cannot be trusted are left out, a bounded number of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from unmask.run import open_run
from unmask.train.guard import WINDOW, Guard
from unmask.train.loop import TRAINING_FAILED
from unmask.train.step import TrainingLoss

Call = Callable[..., tuple[int, str]]
CPU = torch.device("cpu")


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[int, float]], None]:
    """Multiplies the loss of some training passes, counted from 0."""

    def spoiled(factors: dict[int, float]) -> None:
        passes = iter(range(10**9))
        forward = TrainingLoss.forward

        def wrong(*args: Any) -> tuple[torch.Tensor, torch.Tensor]:
            value, nats = forward(*args)
            return value * factors.get(next(passes), 1.0), nats

        monkeypatch.setattr(TrainingLoss, "forward", wrong)

    return spoiled


def lines(run: Path, kind: str = "train") -> list[dict[str, Any]]:
    found = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line for line in found if line["kind"] == kind]


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_gradient_that_is_not_finite_is_left_out(
    factor: float, optimizer: str, unmask: Call, small: list[str], tmp_path: Path,
    spoil: Callable[[dict[int, float]], None],
) -> None:  # fmt: skip
    spoil({3: factor, 4: factor})
    run = tmp_path / "run"
    options = [*small, "--train.steps", 12, "--train.optimizer", optimizer, "--train.ema", 0.5]
    assert unmask("train", "--run", run, *options, "--train.skip", 2)[0] == 0
    found = lines(run)
    assert [line["skipped"] for line in found] == [0, 0, 0, 1, 1] + [0] * 7
    assert ["loss" in line for line in found] == [not line["skipped"] for line in found]
    bounds = [line["nelbo"] for line in lines(run, "eval")]
    assert bounds[-1] < bounds[0]
    assert all(w.isfinite().all() for w in open_run(run).checkpoint.tensors("optimizer").values())


@pytest.mark.parametrize("apart", [1, 2])
def test_one_more_in_a_row_than_is_allowed_stops_training(
    apart: int, unmask: Call, small: list[str], tmp_path: Path,
    spoil: Callable[[dict[int, float]], None],
) -> None:  # fmt: skip
    spoil({4 + apart * i: float("nan") for i in range(3)})
    options = [*small, "--train.steps", 12, "--train.skip", 2, "--train.save-every", 4]
    status, text = unmask("train", "--run", tmp_path / "run", *options)
    if apart == 2:  # never two in a row
        assert status == 0
        return
    assert status == TRAINING_FAILED
    assert "not finite, or a spike, at step 4" in text and "step-00000004" in text


def test_a_norm_far_above_its_average_is_a_spike_once_there_is_one() -> None:
    guard = Guard(10.0, CPU)
    assert guard.judge(torch.tensor(1e6))  # at the start anything may come
    for _ in range(WINDOW * 20):
        assert guard.judge(torch.tensor(2.0))
    assert not guard.judge(torch.tensor(25.0)) and not guard.judge(torch.tensor(float("nan")))
    assert guard.judge(torch.tensor(15.0))
    other = Guard(10.0, CPU)
    other.restore(guard.tensors())
    for norm in (15.0, 21.0, 21.5, 25.0):
        assert bool(guard.judge(torch.tensor(norm))) == bool(other.judge(torch.tensor(norm)))
    careless = Guard(0.0, CPU)
    assert careless.tensors() == {} and all(
        careless.judge(torch.tensor(norm)) for norm in (*[1.0] * WINDOW, 1e30)
    )


@pytest.mark.slow
def test_a_spike_is_left_out_and_a_resumed_run_knows_the_average(
    unmask: Call, small: list[str], tmp_path: Path, spoil: Callable[[dict[int, float]], None]
) -> None:
    options = [
        *small,
        "--recipe",
        "bell",
        "--train.spike",
        50,
        "--validation.every",
        110,
        "--train.log-every",
        5,
    ]
    spoil({115: 1e4})
    whole = tmp_path / "whole"
    assert unmask("train", "--run", whole, *options, "--train.steps", 120)[0] == 0
    assert sum(line["skipped"] for line in lines(whole)) == 1
    parts = tmp_path / "parts"
    assert unmask("train", "--run", parts, *options, "--train.steps", 110)[0] == 0
    spoil({5: 1e4})
    assert unmask("train", "--run", parts, "--resume", "--train.steps", 120)[0] == 0
    a, b = (open_run(run).checkpoint.tensors("model") for run in (whole, parts))
    assert all(torch.equal(a[name], b[name]) for name in a)
