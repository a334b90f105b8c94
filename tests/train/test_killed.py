"""Runs that are killed at any moment: what is resumed ends as what was never disturbed."""

import json
import multiprocessing
import multiprocessing.connection
import os
import random
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from unmask.cli import main
from unmask.train import checkpoint, loop
from unmask.train.checkpoint import checkpoint_steps, damage, find_checkpoint

Call = Callable[..., tuple[int, str]]
TIMES = ("seconds", "tokens_per_second", "flops_per_second")
KILLED, STOPPED = -signal.SIGKILL, 128 + signal.SIGTERM
Harm = Callable[[Path], None]
"""What is arranged in the process of a run, before it starts; it is given the run's folder."""


def _train(words: list[str], run: Path, steps: Path, harm: Harm | None) -> None:
    """A process of its own: notes each step that it begins."""
    torch.set_num_threads(1)
    note, take = os.open(steps, os.O_WRONLY), loop.take_step

    def noted(*args: Any, step: int, **options: Any) -> Any:
        os.write(note, f"{step}\n".encode())
        return take(*args, step=step, **options)

    loop.take_step = noted
    if harm is not None:
        harm(run)
    os._exit(main(["train", "--run", str(run), *words]))


class Attempts:
    """Starts of one run, each in a process of its own that may be killed."""

    def __init__(self, run: Path, options: list[Any]) -> None:
        self.run, self.options = run, [str(option) for option in options]
        self.note = run.with_name(f"{run.name}-steps")

    def start(self, harm: Harm | None = None) -> multiprocessing.Process:
        """As `configs/slurm.sh` does it: what is there is resumed."""
        words = ["--resume"] if (self.run / "config.yaml").is_file() else self.options
        self.note.write_text("")
        fork: Any = multiprocessing.get_context("fork")  # which imports nothing again
        process = fork.Process(target=_train, args=(words, self.run, self.note, harm))
        process.start()
        return process

    def end(self, harm: Harm | None = None, seconds: float = 120) -> int | None:
        """Exit status of an attempt."""
        process = self.start(harm)
        process.join(timeout=seconds)
        process.kill()
        return process.exitcode

    def until_step(self, process: multiprocessing.Process, count: int) -> None:
        """Wait until an attempt has begun so many steps, or has ended."""
        begun = time.monotonic()
        while len(self.steps()) < count and process.is_alive():
            assert time.monotonic() < begun + 60
            time.sleep(0.01)

    def steps(self) -> list[int]:
        """Those that the last attempt began."""
        return [int(line) for line in self.note.read_text().split()]  # of whole lines, by one write

    def last(self) -> int:
        """The step that it will go on from; every checkpoint is whole."""
        folder = self.run / "checkpoints"
        assert not [f for f in folder.glob("step-*") if damage(f) is not None]
        return max(checkpoint_steps(folder), default=0)


def at_file_operation(number: int) -> Harm:
    """Killed before it opens for writing, renames or deletes something in its folder."""

    def harm(run: Path) -> None:
        left = iter(range(number - 1, -1, -1))

        def hook(event: str, args: tuple[Any, ...]) -> None:
            writes = event == "open" and isinstance(args[2], int) and args[2] & os.O_CREAT
            if writes or event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir"):
                # what is deleted below an open folder is told by its name alone
                path = str(args[0])
                if (path.startswith(str(run)) or "/" not in path) and not next(left):
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)

    return harm


def half_written(file: str, step: int) -> Harm:
    """Killed in the middle of a file of a checkpoint."""

    def harm(run: Path) -> None:
        def write(path: Path, data: bytes) -> None:
            if path.name == file and str(step) in path.parent.name:
                path.with_name(f".{path.name}.1.tmp").write_bytes(data[: len(data) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            write_whole(path, data)

        write_whole = checkpoint.write_whole
        checkpoint.write_whole = write

    return harm


def records(run: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    lines = map(json.loads, (run / name).read_text().splitlines())
    kept = [{k: v for k, v in line.items() if k not in TIMES} for line in lines]
    return [r | {"flops": float(f"{r['flops']:.12g}")} if "flops" in r else r for r in kept]


def assert_the_same(run: Path, other: Path) -> None:
    """Bit for bit, but for times."""
    # (a run that was stopped between them has counted its work in other pieces)
    for name in ("metrics.jsonl", "blocks.jsonl"):
        assert records(run, name) == records(other, name)
    found, expected = (find_checkpoint(folder / "checkpoints") for folder in (run, other))
    assert found is not None and expected is not None
    assert found.digests == expected.digests  # of weights, averages and optimisers
    for folder in (run, run / "checkpoints"):
        assert {f.name for f in folder.iterdir()} == {
            f.name for f in (other / folder.relative_to(run)).iterdir()
        }


# Everything that a checkpoint can hold; log lines and checkpoints fall on different steps.
STATE = ["--recipe", "adaptive", "--train.optimizer", "muon", "--train.ema", 0.9]
STATE += ["--train.spike", 50, "--validation.every", 8, "--train.save-every", 4]
STATE += ["--train.keep", 1, "--train.log-every", 3]


def killed_at_random(kills: int, unmask: Call, options: list[Any], tmp_path: Path) -> None:
    """Train a run, and once more with kills at random moments; the ends are the same."""
    chance, options = random.Random(kills), [*options, "--train.steps", kills * 9]
    whole = tmp_path / "whole"
    assert unmask("train", "--run", whole, *options)[0] == 0  # here: what forks has imported it all
    attempts = Attempts(tmp_path / "run", options)
    times = 0
    while times < kills:
        begun = attempts.last()
        if times % 3 == 0:
            status = attempts.end(at_file_operation(chance.randrange(1, 60)))
        else:
            process = attempts.start()
            attempts.until_step(process, 3)
            time.sleep(chance.uniform(0, 0.1))
            if times % 3 == 1:  # as a machine that is taken away: some time to save, or too little
                process.terminate()
                time.sleep(chance.uniform(0, 0.1))
            process.kill()
            process.join()
            status = process.exitcode
        if status == 0:  # done before it was killed: its end is lost, as on a broken disk
            last = max(checkpoint_steps(attempts.run / "checkpoints"))
            shutil.rmtree(attempts.run / f"checkpoints/step-{last:08d}")
            continue
        assert status in (KILLED, STOPPED)
        times += 1
        if steps := attempts.steps():
            assert steps == list(range(begun, begun + len(steps)))  # none is redone before it
            assert attempts.last() >= steps[-1] // 4 * 4
    begun = attempts.last()
    assert attempts.end() == 0
    assert begun == kills * 9 or attempts.steps()[0] == begun
    assert_the_same(attempts.run, whole)


@pytest.mark.parametrize("kills", [4, pytest.param(30, marks=pytest.mark.slow)])
def test_killed_at_random_moments_it_ends_as_if_it_never_was(
    kills: int, unmask: Call, small: list[str], tmp_path: Path
) -> None:
    killed_at_random(kills, unmask, [*small, *STATE], tmp_path)


def in_deleting(run: Path) -> None:
    """Killed when the second file of an old checkpoint is to be deleted."""
    left = iter([False, True])

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "os.remove" and str(args[0]).endswith(".safetensors") and next(left):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


@pytest.mark.slow
def test_killed_while_a_checkpoint_is_written_or_deleted(
    unmask: Call, small: list[str], tmp_path: Path
) -> None:
    whole, options = tmp_path / "whole", [*small, *STATE, "--train.steps", 24]
    assert unmask("train", "--run", whole, *options)[0] == 0
    attempts = Attempts(tmp_path / "run", options)
    attempts.run.mkdir()
    (attempts.run / ".config.yaml.1.tmp").write_text("trai")  # as far as an attempt came
    harms: list[tuple[Harm, int]] = [
        (half_written("model.safetensors", 8), 4),
        (in_deleting, 8),  # of step 4
        (half_written("checkpoint.json", 16), 12),
        (half_written("optimizer.safetensors", 20), 16),
    ]
    for harm, last in harms:
        assert attempts.end(harm) == KILLED
        assert attempts.last() == last
    assert attempts.end() == 0 and attempts.steps() == list(range(16, 24))
    assert_the_same(attempts.run, whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1])
def test_a_signal_saves_and_another_ends_it_at_once(
    number: signal.Signals, small: list[str], tmp_path: Path
) -> None:
    """SIGTERM is in test_train.py."""
    options = [*small, "--train.steps", 100_000, "--validation.every", 100_000]
    attempts = Attempts(tmp_path / "run", options)
    process = attempts.start()
    attempts.until_step(process, 3)
    os.kill(process.pid, number)
    process.join(timeout=60)
    assert process.exitcode == 128 + number
    assert attempts.last() == attempts.steps()[-1] + 1

    def two_at_once(run: Path) -> None:
        save = loop.save_checkpoint

        def impatient(*args: Any) -> Path:
            os.kill(os.getpid(), number)
            return save(*args)

        loop.save_checkpoint = impatient

    saved, process = attempts.last(), attempts.start(two_at_once)
    attempts.until_step(process, 3)
    os.kill(process.pid, number)
    process.join(timeout=60)
    assert process.exitcode == 128 + number
    assert attempts.last() == saved


def test_one_of_two_starts_is_refused_and_a_killed_one_leaves_no_lock(
    small: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = [*small, "--train.steps", 100_000, "--train.save-every", 5]
    run = tmp_path / "run"
    for said in ("exists already|another process", "another process"):  # new, and resumed
        pair = [Attempts(run, options).start() for _ in range(2)]
        ended = multiprocessing.connection.wait([p.sentinel for p in pair], timeout=60)
        (refused,) = [p for p in pair if p.sentinel in ended]
        (other,) = [p for p in pair if p is not refused]
        refused.join()
        assert refused.exitcode == 2
        assert len(re.findall(said, capfd.readouterr().err)) == 1
        while not checkpoint_steps(run / "checkpoints"):
            time.sleep(0.01)
        assert other.is_alive()
        other.kill()
        other.join()
    steps = [record["step"] for record in records(run) if record["kind"] == "train"]
    assert steps == list(range(1, len(steps) + 1))  # only one has written
