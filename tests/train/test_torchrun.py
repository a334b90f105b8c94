"""Runs that a real torchrun starts: one of their processes is killed, and they are restarted."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from unmask.base.errors import UserError
from unmask.config import Config
from unmask.config import with_options as options_over
from unmask.run import train_run

Call = Callable[..., tuple[int, str]]
TIMES = ("seconds", "tokens_per_second", "flops_per_second")
ONE_IS_LOST = "another process of this run has ended"


def torchrun(run: Path, options: list[Any], *starter: object) -> subprocess.Popen[str]:
    """``torchrun --nproc-per-node 2 STARTER -m unmask -- train --run RUN OPTIONS``."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", 2, *starter]
    command += ["-m", "unmask", "--", "train", "--run", run, *options]
    return subprocess.Popen(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def workers(process: subprocess.Popen[str]) -> list[int]:
    """The ids of torchrun's processes, by rank."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    by_rank = {}
    for child in children:
        environment = Path(f"/proc/{child}/environ").read_text().split("\0")
        ranks = [entry.removeprefix("RANK=") for entry in environment if entry.startswith("RANK=")]
        by_rank |= {int(rank): int(child) for rank in ranks}
    return [by_rank[rank] for rank in sorted(by_rank)]


def records(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text().split("\n")[:-1]
    return [{k: v for k, v in r.items() if k not in TIMES} for r in map(json.loads, lines)]


def until_step(process: subprocess.Popen[str], run: Path, step: int) -> None:
    """Wait until the run has come to a step."""
    begun = time.monotonic()
    while not (run / "metrics.jsonl").is_file() or max(map(_step, records(run)), default=0) < step:
        assert process.poll() is None and time.monotonic() < begun + 120
        time.sleep(0.05)


def _step(record: dict[str, Any]) -> int:
    return int(record["step"])


def kill_one(process: subprocess.Popen[str], rank: int, run: Path, step: int) -> float:
    """Kill a process once the run has come to a step; the time of it."""
    until_step(process, run, step)
    os.kill(workers(process)[rank], signal.SIGKILL)
    return time.monotonic()


def assert_nearly(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """To the order of sums."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert value == _nearly(other[key]), (one["step"], key)


def _nearly(value: Any) -> Any:
    if isinstance(value, list):
        return [_nearly(part) for part in value]
    return pytest.approx(value, rel=1e-3, abs=1e-4) if isinstance(value, float) else value


@pytest.fixture
def options(small: list[str]) -> list[Any]:
    recipe = ["--recipe", "bell", "--train.learning-rate", 1e-3]
    return [*small, *recipe, "--train.steps", 60, "--train.save-every", 5, "--validation.every", 20]


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_of_torchrun_are_one_and_a_restart_goes_on_by_itself(
    parallel: str, options: list[Any], unmask: Call, tmp_path: Path
) -> None:
    alone, run = tmp_path / "alone", tmp_path / "run"
    assert unmask("train", "--run", alone, *options)[0] == 0
    together = [*options, "--train.parallel", parallel]
    process = torchrun(tmp_path / "quiet", together)
    told, _ = process.communicate(timeout=240)
    assert process.returncode == 0, told
    assert_nearly(records(tmp_path / "quiet"), records(alone))

    process = torchrun(run, together, "--max-restarts", 1)
    kill_one(process, 1, run, 22)
    told, _ = process.communicate(timeout=240)
    assert process.returncode == 0, told
    assert told.count(f"restarted: {run} goes on") == 1 and told.count(ONE_IS_LOST) == 1
    assert_nearly(records(run), records(alone))


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        ["--train.parallel", "fsdp", "--train.precision", "bf16"],
        ["--train.parallel", "ddp", "--train.optimizer", "normuon"],
        ["--train.parallel", "ddp", "--train.optimizer", "soap"],
    ],
    ids=["fsdp", "normuon", "soap"],
)
def test_two_processes_train_every_part_of_the_network(
    changes: list[str], options: list[Any], unmask: Call, tmp_path: Path
) -> None:
    """Blocks that are passed twice, and what stands outside of them, are shared as the others."""
    together = [*options, "--recipe", "fast", "--model.layers", 4, "--model.convolution", 2]
    together += ["--model.loops", 2, "--model.activation", "relu2", "--model.value-embedding"]
    together += ["--model.zero-outputs", "--model.self-conditioning", *changes]
    alone, run = tmp_path / "alone", tmp_path / "run"
    assert unmask("train", "--run", alone, *together, "--train.parallel", "none")[0] == 0
    told, _ = (process := torchrun(run, together)).communicate(timeout=240)
    assert process.returncode == 0, told
    tolerance = {"bf16": 0.02}.get(changes[-1], 1e-3)
    for one, other in zip(records(run), records(alone), strict=True):
        for key in {"loss", "nelbo"} & other.keys():
            assert one[key] == pytest.approx(other[key], rel=tolerance)


@pytest.mark.slow
def test_an_optimiser_of_whole_matrices_refuses_divided_ones(
    options: list[Any], tmp_path: Path
) -> None:
    process = torchrun(
        tmp_path / "run", [*options, "--train.parallel", "fsdp", "--train.optimizer", "soap"]
    )
    told, _ = process.communicate(timeout=240)
    assert process.returncode != 0 and "soap does not work on divided matrices" in told


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_one_is_killed_and_the_other_says_so_and_stops(
    rank: int, options: list[Any], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = torchrun(run, [*options, "--train.steps", 100_000])
    at = kill_one(process, rank, run, 7)
    told, _ = process.communicate(timeout=60)
    assert time.monotonic() - at < 60
    assert process.returncode != 0
    said = [line for line in told.splitlines() if re.match("error|stopped", line)]
    assert len(said) == 1 and ONE_IS_LOST in said[0], told
    assert "in train_command" not in told  # no traceback of ours


@pytest.mark.slow
def test_a_signal_to_torchrun_saves_the_run(options: list[Any], tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = torchrun(
        run, [*options, "--train.steps", 100_000, "--train.save-every", 90_000],
        "--signals-to-handle", "SIGTERM,SIGUSR1",
    )  # fmt: skip
    until_step(process, run, 5)
    process.send_signal(signal.SIGUSR1)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 1 and "and saved; to go on: unmask train" in told
    (saved,) = (run / "checkpoints").iterdir()
    assert saved.name == f"step-{records(run)[-1]['step']:08d}"


def test_only_a_restart_of_the_same_run_goes_on_by_itself(
    small: list[str], unmask: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What torchrun says to a process that takes the place of one that failed."""
    run, options = tmp_path / "run", [*small, "--train.steps", 2]
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert unmask("train", "--run", run, *options)[0] == 0  # it had not come to anything
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    status, told = unmask("train", "--run", run, *options)
    assert status == 2 and "exists already" in told
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "2")
    before = records(run)
    status, told = unmask("train", "--run", run, *options)
    assert status == 0 and f"restarted: {run} goes on" in told and records(run) == before
    for other in (["--seed", 1], ["--train.steps", 3]):
        status, told = unmask("train", "--run", run, *options, *other)
        assert status == 2 and "exists already" in told


@pytest.mark.slow
def test_a_restart_of_a_recipe_that_its_corpus_settles(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"corpus.source": str(corpus), "corpus.block_size": 32, "model.layers": 1,
             "model.width": 8, "model.heads": 1, "train.steps": 1, "train.batch_size": 4,
             "train.device": "cpu", "validation.blocks": 4, "validation.draws": 1}  # fmt: skip
    config = options_over(Config(recipe="bell:auto"), small)
    quiet = Console(quiet=True)
    train_run(config, tmp_path / "run", resume=False, console=quiet)
    with pytest.raises(UserError, match="exists already"):
        train_run(config, tmp_path / "run", resume=False, console=quiet)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    outcome = train_run(config, tmp_path / "run", resume=False, console=quiet)
    assert outcome.progress.step == 1
