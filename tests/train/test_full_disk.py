"""A disk that is full: the run says so, goes on, and loses nothing that was whole."""

import errno
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import pytest

from unmask.train import checkpoint, metrics

Call = Callable[..., tuple[int, str]]
OPTIONS = ["--validation.every", 2, "--train.steps", 8]


def steps(run: Path) -> list[int]:
    return checkpoint.checkpoint_steps(run / "checkpoints")


def no_room(path: Path) -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def full_at(monkeypatch: pytest.MonkeyPatch, *full: int) -> None:
    """No file of the checkpoints of these steps has room, but for the first."""
    write = checkpoint.write_whole

    def written(path: Path, data: bytes) -> None:
        if any(f"{step:08d}" in path.parent.name for step in full) and "model" not in path.name:
            raise no_room(path)
        write(path, data)

    monkeypatch.setattr(checkpoint, "write_whole", written)


def test_a_checkpoint_without_room_is_left_out_and_the_next_is_saved(
    unmask: Call, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    full_at(monkeypatch, 4, 6)
    status, text = unmask("train", "--run", run, *small, *OPTIONS)
    assert status == 0, text
    assert text.count("not written") == 2 and "step-00000002" in text
    assert steps(run) == [2, 8]
    assert not [p for p in (run / "checkpoints").iterdir() if p.name.startswith(".")]


def test_without_room_at_the_end_the_run_fails_and_goes_on_from_the_last_good_one(
    unmask: Call, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as full:
        full_at(full, 6, 8)
        status, text = unmask("train", "--run", run, *small, *OPTIONS)
    assert status == 2 and "No space left on device" in text
    assert steps(run) == [2, 4]
    status, text = unmask("train", "--run", run, "--resume")
    assert status == 0, text
    assert steps(run)[-1] == 8
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in lines if r["kind"] == "train"] == list(range(1, 9))


def test_records_wait_until_there_is_room(
    unmask: Call, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, other, calls = tmp_path / "run", tmp_path / "other", list[int]()
    assert unmask("train", "--run", other, *small, *OPTIONS)[0] == 0
    write = metrics.Jsonl.write

    def written(sink: metrics.Jsonl, record: dict[str, object]) -> None:
        calls.append(1)
        if not 3 <= len(calls) <= 9:
            return write(sink, record)
        with monkeypatch.context() as full:
            full.setattr(sink, "_file", Full(sink._file))
            return write(sink, record)

    monkeypatch.setattr(metrics.Jsonl, "write", written)
    status, text = unmask("train", "--run", run, *small, *OPTIONS)
    assert status == 0, text
    assert "not written" in text
    for name in ("metrics.jsonl", "blocks.jsonl"):
        found, expected = ((folder / name).read_text().splitlines() for folder in (run, other))
        assert [json.loads(line)["step"] for line in found] == [
            json.loads(line)["step"] for line in expected
        ]


class Full:
    """A text file whose flush finds no room; what it was given stays with the file."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        self._file.write(text)

    def flush(self) -> None:
        raise no_room(Path("metrics.jsonl"))


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("no permission to mount a disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_is_really_full(unmask: Call, small: list[str], tiny_disk: Path) -> None:
    """Room for a checkpoint and the records; then for the records alone; then again for all."""
    run, filler = tiny_disk / "run", tiny_disk / "filler"
    options = [*small, "--train.keep", 1]
    assert unmask("train", "--run", run, *options, *OPTIONS[:2], "--train.steps", 2)[0] == 0
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))
    os.truncate(filler, filler.stat().st_size - 2**17)
    status, text = unmask("train", "--run", run, "--resume", "--train.steps", 8)
    assert status == 2 and text.count("No space left on device") == 3  # at 4, 6 and the end
    assert steps(run) == [2]
    filler.unlink()
    status, text = unmask("train", "--run", run, "--resume", "--train.steps", 8)
    assert status == 0, text
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in lines if r["kind"] == "train"] == list(range(1, 9))
