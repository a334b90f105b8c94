"""Runs of a comparison in the process of the test: no interpreter to start, no torch to import."""

import io
import subprocess
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from types import SimpleNamespace
from typing import BinaryIO

import pytest

from unmask.cli import main


class Trained:
    """What stands in for a run's process: its command, carried out at once."""

    def __init__(self, command: Sequence[str], *, stdout: BinaryIO, **_: object) -> None:
        said = io.StringIO()
        with redirect_stdout(said), redirect_stderr(said):
            self.returncode = main(list(command[3:]))  # what follows python -m unmask
        stdout.write(said.getvalue().encode())

    def poll(self) -> int:
        """The exit status, which is known already."""
        return self.returncode


def train_here(patch: pytest.MonkeyPatch) -> None:
    """Let comparisons train their runs in this process, until the patch is undone."""
    fake = SimpleNamespace(Popen=Trained, STDOUT=subprocess.STDOUT)
    patch.setattr("unmask.compare.launch.subprocess", fake)
    patch.setattr("unmask.compare.launch._LOOK_EVERY", 0)
