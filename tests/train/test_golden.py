"""Loss curves of fixed seeds: an optimisation of the step must not change its mathematics.

The curves were recorded with the plainest step (logits of all masked positions at once, autograd
through log-softmax), before the projection and its loss were computed in chunks. They are held to
2 parts in 10,000 over 40 steps in float32: rounding differs between machines, mathematics must not.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Call = Callable[..., tuple[int, str]]

GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text())
"""Recipe and optimiser -> the losses of steps 1 to 40, in nats per token."""


def losses(unmask: Call, small: list[str], run: Path, recipe: str, optimizer: str) -> list[float]:
    options = ["--train.steps", 40, "--validation.every", 40, "--recipe", recipe]
    options += ["--train.optimizer", optimizer, "--train.learning-rate", 0.005]
    status, text = unmask("train", "--run", run, *small, *options)
    assert status == 0, text
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [r["loss"] for r in records if r["kind"] == "train"]


FEW = ("standard+adamw", "bell-weighted+muon")


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=[] if c in FEW else [pytest.mark.slow]) for c in GOLDEN]
)
def test_losses_are_those_of_the_plain_step(
    case: str, unmask: Call, small: list[str], tmp_path: Path
) -> None:
    recipe, optimizer = case.split("+")
    found = losses(unmask, small, tmp_path / "run", recipe, optimizer)
    assert found == pytest.approx(GOLDEN[case], rel=2e-4)
    assert found[-1] < 0.6 * found[0]  # far enough for a wrong gradient to show


def test_micro_batches_in_bfloat16_stay_near_the_same_curve(
    unmask: Call, small: list[str], tmp_path: Path
) -> None:
    low = [*small, "--train.precision", "bf16", "--train.accumulation", "3"]
    found = losses(unmask, low, tmp_path / "run", "bell", "adamw")
    assert found == pytest.approx(GOLDEN["bell+adamw"], rel=3e-2)
