"""Train the runs of a comparison, each an ordinary run in a process of its own, several at once."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from unmask.config import Config, save_config
from unmask.train.loop import TRAINING_FAILED
from unmask.train.metrics import METRICS, read_records
from unmask.train.signals import SIGNALS

_LOOK_EVERY = 0.5  # seconds between two looks at the processes


@dataclass
class Trial:
    """One run of a comparison: an arm with a seed.

    Attributes:
        arm: its name.
        config: the run's configuration, the seed in it.
        folder: of the run.
        state: ``waiting``, ``running``, ``done``, ``diverged`` or ``failed``.
    """

    arm: str
    config: Config
    folder: Path
    state: str = "waiting"
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def log(self) -> Path:
        """What the run's process printed."""
        return self.folder.with_name(f"{self.folder.name}.log")

    def records(self, kind: str) -> list[dict[str, Any]]:
        """Its ``train`` or ``eval`` records so far."""
        return [r for r in read_records(self.folder / METRICS)[0] if r.get("kind") == kind]

    def finished(self) -> bool:
        """Whether its last evaluation is that of its last step."""
        steps = [r["step"] for r in self.records("eval")]
        return bool(steps) and steps[-1] == self.config.train.steps


class Interrupted(Exception):
    """A signal ended the comparison; its runs have saved themselves."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


def threads_each(jobs: int) -> int:
    """Threads of each of so many runs at once: the cores divided between them.

    Never more than the user's ``OMP_NUM_THREADS``: where other work has the other cores, threads
    that wait for each other take many times as long as one.
    """
    share = max(1, (os.cpu_count() or 1) // jobs)
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(share, int(wanted)) if wanted.isdecimal() and int(wanted) > 0 else share


def train_all(trials: list[Trial], jobs: int, console: Console) -> None:
    """Train every trial that is not finished, ``jobs`` at a time, and show them in one table.

    A finished run is left as it is, an interrupted one goes on. A run that diverges or fails is
    marked so, and the others go on.

    Raises:
        Interrupted: one of `SIGNALS` came; it was passed on and the runs have ended.
    """
    for trial in trials:
        if trial.finished():
            trial.state = "done"
    threads = threads_each(jobs)
    shown = console.is_terminal
    with _signals() as received, Live(console=console, auto_refresh=False, transient=True) as live:
        while any(t.state in ("waiting", "running") for t in trials):
            _advance(trials, jobs, threads, console)
            if received:
                _stop(trials, received)
                raise Interrupted(received[0])
            if shown:
                live.update(_table(trials), refresh=True)
            time.sleep(_LOOK_EVERY)


def _advance(trials: list[Trial], jobs: int, threads: int, console: Console) -> None:
    """Note what has ended and start what can be started."""
    for trial in trials:
        if trial.process is not None and trial.process.poll() is not None:
            status = trial.process.returncode
            trial.process = None
            trial.state = {0: "done", TRAINING_FAILED: "diverged"}.get(status, "failed")
            console.print(_sentence(trial), soft_wrap=True)
    running = sum(t.state == "running" for t in trials)
    for trial in [t for t in trials if t.state == "waiting"][: jobs - running]:
        trial.process = _start(trial, threads)
        trial.state = "running"


def _start(trial: Trial, threads: int) -> subprocess.Popen[bytes]:
    trial.folder.parent.mkdir(parents=True, exist_ok=True)
    plan = trial.folder.with_name(f"{trial.folder.name}.yaml")
    save_config(trial.config, plan)
    command = [sys.executable, "-m", "unmask", "train"]
    command += ["--config", str(plan), "--run", str(trial.folder)]
    command += ["--resume"] * (trial.folder / "config.yaml").is_file()
    with trial.log.open("wb") as log:
        return subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            start_new_session=True,  # a Ctrl-C reaches it through us, once
        )


def _stop(trials: list[Trial], received: list[int]) -> None:
    """Pass on every signal, also those that come while the runs save, and wait for their end."""
    running = [t.process for t in trials if t.process is not None]
    passed_on = 0
    while any(process.poll() is None for process in running):
        for number in received[passed_on:]:
            passed_on += 1
            for process in running:
                process.send_signal(number)
        time.sleep(0.1)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect the signals that ask to save and end, instead of dying of them."""
    received: list[int] = []
    previous = {s: signal.signal(s, lambda number, _: received.append(number)) for s in SIGNALS}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _sentence(trial: Trial) -> str:
    name = f"{trial.arm}, seed {trial.config.seed}"
    if trial.state == "done":
        return f"{name}: done, NELBO {trial.records('eval')[-1]['nelbo']:.4f}"
    last = trial.log.read_text(errors="replace").strip().splitlines()[-1:] or ["no output"]
    return f"{name}: {trial.state}: {last[0]}"


def _table(trials: list[Trial]) -> Table:
    table = Table("recipe", "seed", "step", "", "NELBO", "tokens/s", "state")
    for trial in trials:
        evals, trains = trial.records("eval"), trial.records("train")
        step = max((r["step"] for r in evals[-1:] + trains[-1:]), default=0)
        total = trial.config.train.steps
        table.add_row(
            trial.arm,
            str(trial.config.seed),
            f"{step:,}/{total:,}",
            ProgressBar(total=total, completed=step, width=20),
            f"{evals[-1]['nelbo']:.4f}" if evals else "",
            f"{trains[-1]['tokens_per_second']:,.0f}" if trains else "",
            trial.state,
        )
    return table
