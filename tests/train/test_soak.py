"""A long run holds no more memory and no more files at its end than near its beginning."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

EVALUATIONS = 500
STATUS = Path("/proc/self/status")


def held(process: int) -> tuple[float, int, int]:
    """Resident memory in MiB, open files and threads."""
    status = Path(f"/proc/{process}/status").read_text()
    memory, threads = (
        int(re.findall(rf"{name}:\s+(\d+)", status)[0]) for name in ("RssAnon", "Threads")
    )
    return memory / 1024, len(list(Path(f"/proc/{process}/fd").iterdir())), threads


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.is_file(), reason="there is no /proc")
@pytest.mark.parametrize("recipe", ["fast", "adaptive"])
def test_memory_and_files_stay_as_they_are(recipe: str, small: list[str], tmp_path: Path) -> None:
    run, every = tmp_path / "run", 3
    options = [*small, "--recipe", recipe, "--train.ema", 0.9, "--train.spike", 50]
    options += ["--train.steps", EVALUATIONS * every, "--validation.every", every]
    options += ["--train.keep", 2, "--model.layers", 1, "--model.width", 16, "--model.heads", 1]
    process = subprocess.Popen(
        [sys.executable, "-m", "unmask", "train", "--run", str(run), *map(str, options)],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    seen: list[tuple[float, int, int]] = []
    while process.poll() is None:
        if (run / "checkpoints").is_dir():
            try:
                seen.append(held(process.pid))
            except (FileNotFoundError, IndexError):  # it is ending
                break
        time.sleep(0.1)
    assert process.wait() == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert sum(line["kind"] == "eval" for line in lines) == EVALUATIONS + 1
    assert len(list((run / "checkpoints").iterdir())) <= 3
    assert len(seen) > 50
    tenth = len(seen) // 10
    early, late = seen[2 * tenth : 3 * tenth], seen[-tenth:]
    memory, files, threads = ((max(s[i] for s in early), max(s[i] for s in late)) for i in range(3))
    assert memory[1] < memory[0] + 8, memory
    assert files[1] <= files[0] + 2, files  # a file more or less is open while one is written
    assert threads[1] <= threads[0], threads
