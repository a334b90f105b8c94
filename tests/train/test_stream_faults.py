"""Streamed corpora and what befalls long runs: kills, signals, sources that change or vanish."""

import json
import lzma
import multiprocessing
import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_killed import STATE, Attempts, killed_at_random
from test_processes import assert_the_same_run, start, together, weights
from torch.utils.data import get_worker_info

from chat_tokenizer import CHATML, make
from unmask.base.files import sha256_of
from unmask.cli import main
from unmask.data import lanes, stream
from unmask.train import loop
from unmask.train.checkpoint import checkpoint_steps

Call = Callable[..., tuple[int, str]]
BAD_INPUT = 2
STOPPED = 128 + signal.SIGTERM
FILES, ROWS = 4, 40


def row(file: int, number: int) -> dict[str, Any]:
    """A record that serves as a text, as an answer with its prompt, and as a conversation."""
    text = f"file {file} line {number} " + "and so on " * (number % 5)
    said = [("user", f"{file} and {number}?"), ("assistant", text[:30])]
    return {
        "text": text,
        "prompt": f"{number} of {file}: ",
        "messages": [{"role": role, "content": content} for role, content in said],
    }


def write(path: Path, file: int, rows: int = ROWS) -> None:
    path.write_text("".join(json.dumps(row(file, i)) + "\n" for i in range(rows)))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of four files; the first rows of file 0 are validation text."""
    folder = tmp_path / "source"
    folder.mkdir()
    for k in range(FILES):
        write(folder / f"{k}.jsonl", k)
    return folder


@pytest.fixture
def options(source: Path, small: list[str]) -> list[Any]:
    how = ["--corpus.streaming", "--corpus.valid-documents", 10, "--corpus.lanes", 2]
    return [*small, "--corpus.source", source, *how, "--corpus.shuffle", 16, "--recipe", "bell"]


def kind_of(name: str, source: Path, tmp_path: Path) -> list[Any]:
    """More options: for a stream of that kind."""
    if name == "mixture":
        both = source / "[01].jsonl", source / "[23].jsonl"
        return ["--corpus.source", f"{both[0]}:weight=3 + {both[1]}:weight=1"]
    if name == "prompts":
        return ["--corpus.prompt-field", "prompt", "--corpus.packing", "pad"]
    if name == "conversations":
        tokenizer = make(tmp_path / "chat", CHATML)
        return ["--corpus.messages-field", "messages", "--corpus.packing", "pad",
                "--corpus.tokenizer", tokenizer, "--corpus.block-size", 128]  # fmt: skip
    return []


# --- kills and signals --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "kills"), [("texts", 12), ("mixture", 4), ("prompts", 4), ("conversations", 4)]
)
def test_killed_at_random_moments_it_ends_as_if_it_never_was(
    kind: str, kills: int, options: list[Any], source: Path, unmask: Call, tmp_path: Path
) -> None:
    more = [*STATE, *kind_of(kind, source, tmp_path)]
    killed_at_random(kills, unmask, [*options, *more], tmp_path)


def group_of_its_own(_: Path) -> None:
    os.setsid()


def assert_gone(group: int) -> None:
    """No process of a group is there, soon."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.killpg(group, signal.SIGKILL)
    pytest.fail("a process that reads the stream outlives its run")


def test_a_signal_to_all_of_its_processes_saves_it(
    options: list[Any], unmask: Call, tmp_path: Path
) -> None:
    """As schedulers and terminals send it: to those that read the stream, too."""
    whole, options = tmp_path / "whole", [*options, "--validation.every", 100_000]
    attempts = Attempts(tmp_path / "run", [*options, "--train.steps", 100_000])
    process = attempts.start(group_of_its_own)
    attempts.until_step(process, 3)
    os.killpg(process.pid, signal.SIGTERM)
    process.join(timeout=60)
    assert process.exitcode == STOPPED
    assert_gone(process.pid)
    saved = attempts.last()
    assert saved == attempts.steps()[-1] + 1
    end = ["--train.steps", saved + 5]
    assert unmask("train", "--run", attempts.run, "--resume", *end)[0] == 0
    assert unmask("train", "--run", whole, *options, *end)[0] == 0
    assert_equal_weights(attempts.run, whole, saved + 5)


def assert_equal_weights(run: Path, other: Path, step: int) -> None:
    """Bit for bit, and the places in the stream."""
    for name in ("model", "optimizer", "stream"):
        a, b = (weights(folder, step, name) for folder in (run, other))
        assert a.keys() == b.keys() and all(a[key].equal(b[key]) for key in a)


@pytest.mark.parametrize(
    "moment",
    [
        "validate",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("save_checkpoint", "take_step")),
    ],
)
def test_a_killed_worker_is_told_whatever_the_run_is_doing(
    moment: str, options: list[Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As where memory runs out; the last checkpoint stands, and the rest of the workers end."""
    attempts = Attempts(tmp_path / "run", [*options, "--train.steps", 9, "--train.save-every", 3])

    def killing(_: Path) -> None:
        os.setsid()

        def then(*args: Any, **more: Any) -> Any:
            if len(attempts.steps()) == 6:
                os.kill(int(multiprocessing.active_children()[0].pid or 0), signal.SIGKILL)
                time.sleep(5)  # the news comes meanwhile
            return usual(*args, **more)

        usual = getattr(loop, moment)
        setattr(loop, moment, then)

    attempts.options += ["--validation.every", "3"]
    process = attempts.start(killing)
    process.join(timeout=60)
    assert process.exitcode == BAD_INPUT
    assert_gone(process.pid)
    assert attempts.last() == (6 if moment == "take_step" else 3)
    told = capfd.readouterr()
    assert told.err.count("a process that reads the stream has ended") == 1
    assert "Traceback" not in told.out + told.err


@pytest.mark.slow
def test_an_error_that_nobody_expects_ends_the_workers_too(
    options: list[Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Python's end waits for every process that it has started."""

    def failing(_: Path) -> None:
        def read(*args: Any) -> Any:
            raise KeyError("no such thing")

        lanes.ids_of = read

    assert Attempts(tmp_path / "run", options).end(failing, seconds=60) == 1
    assert "no such thing" in capfd.readouterr().err


@pytest.mark.slow
def test_a_signal_comes_while_workers_start(options: list[Any], tmp_path: Path) -> None:
    attempts = Attempts(tmp_path / "run", options)

    def slowly(run: Path) -> None:
        def begin() -> None:
            if get_worker_info().id == 0:
                os.killpg(os.getpgid(0), signal.SIGTERM)
            begin_worker()

        os.setsid()
        begin_worker, stream.begin_worker = stream.begin_worker, begin

    process = attempts.start(slowly)
    process.join(timeout=60)
    assert process.exitcode == STOPPED
    assert_gone(process.pid)
    assert attempts.last() == 1


# --- sources that change, vanish or are damaged -------------------------------------------------


def without_folder(source: Path) -> None:
    shutil.rmtree(source)


def without_file(source: Path) -> None:
    (source / "2.jsonl").unlink()


def with_another_file(source: Path) -> None:
    write(source / "4.jsonl", 4)


def with_a_row_more(source: Path) -> None:
    with (source / "3.jsonl").open("a") as file:
        file.write(json.dumps(row(3, ROWS)) + "\n")


def with_other_validation_text(source: Path) -> None:
    path = source / "0.jsonl"  # of the same size
    path.write_text(path.read_text().replace("file 0 line 3 ", "fine 0 line 3 "))


def without_a_part(source: Path) -> None:
    (source / "2.jsonl").unlink(), (source / "3.jsonl").unlink()


GONE = "error: .*no file.*"
CHANGED = "error: the corpus .* is no longer what the run .*"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "harms"),
    [
        ("texts", [(without_folder, GONE), (without_file, CHANGED), (with_another_file, CHANGED),
                   (with_a_row_more, CHANGED), (with_other_validation_text, CHANGED)]),
        ("mixture", [(without_a_part, GONE), (with_a_row_more, CHANGED)]),
        ("prompts", [(with_other_validation_text, CHANGED)]),
    ],
)  # fmt: skip
def test_a_source_that_is_no_longer_what_it_was_is_told_before_anything_is_done(
    kind: str,
    harms: list[tuple[Callable[[Path], None], str]],
    options: list[Any],
    source: Path,
    unmask: Call,
    tmp_path: Path,
) -> None:
    run, kept = tmp_path / "run", tmp_path / "kept"
    options += [*kind_of(kind, source, tmp_path), "--train.steps", 2]
    assert unmask("train", "--run", run, *options)[0] == 0
    shutil.copytree(source, kept)
    before = {path: sha256_of(path) for path in run.rglob("*") if path.is_file()}
    for harm, said in harms:
        harm(source)
        status, told = unmask("train", "--run", run, "--resume", "--train.steps", 4)
        assert status == BAD_INPUT
        assert re.fullmatch(said, told.strip()), told
        assert {path: sha256_of(path) for path in run.rglob("*") if path.is_file()} == before
        shutil.rmtree(source, ignore_errors=True)
        shutil.copytree(kept, source)
    assert unmask("train", "--run", run, "--resume", "--train.steps", 4)[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("harm", [without_folder, without_file, with_a_row_more])
def test_a_source_that_changes_while_it_is_read_is_told_and_put_back_it_goes_on(
    harm: Callable[[Path], None],
    options: list[Any],
    source: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(source, tmp_path / "kept")
    options = [*options, "--train.save-every", 3, "--validation.every", 100_000]
    attempts = Attempts(tmp_path / "run", [*options, "--train.steps", 100_000])
    process = attempts.start()
    attempts.until_step(process, 7)
    harm(source)
    process.join(timeout=60)
    assert process.exitcode == BAD_INPUT
    told = capfd.readouterr().err
    assert re.search(rf"error: {source}/\d.jsonl (has changed since reading|cannot be read)", told)
    assert told.count("error:") == 1 and "Traceback" not in told
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(tmp_path / "kept", source)
    end = attempts.last() + 5
    words = ["train", "--train.steps", str(end), "--run"]
    assert main([*words, str(attempts.run), "--resume"]) == 0
    whole = tmp_path / "whole"
    assert main([*words, str(whole), *map(str, options)]) == 0
    assert_equal_weights(attempts.run, whole, end)


@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True])
def test_damage_in_the_middle_of_a_stream_is_told_when_it_is_come_to(
    packed: bool, options: list[Any], source: Path, unmask: Call, tmp_path: Path
) -> None:
    """Steps before it are kept; mended, the run ends as if nothing had been."""
    for k in range(FILES):
        write(source / f"{k}.jsonl", k, 600)
    path = source / "2.jsonl"
    if packed:
        path = source / "2.jsonl.xz"
        path.write_bytes(lzma.compress((source / "2.jsonl").read_bytes(), check=lzma.CHECK_CRC32))
        (source / "2.jsonl").unlink()
    whole = path.read_bytes()
    half = len(whole) // 2
    at = half if packed else whole.index(b"\n{", half) + 1
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
    options = [*options, "--train.save-every", 3, "--validation.every", 100_000]
    run, other = tmp_path / "run", tmp_path / "other"
    status, told = unmask("train", "--run", run, *options, "--train.steps", 100_000)
    line = whole[:at].count(b"\n") + 1
    said = f"error: {path}" + ("" if packed else f", line {line} is not JSON")
    assert status == BAD_INPUT and told.count(said) == 1 and told.count("error:") == 1, told
    last = max(checkpoint_steps(run / "checkpoints"))
    status, told = unmask("train", "--run", run, "--resume")  # and again
    assert status == BAD_INPUT and said in told
    assert max(checkpoint_steps(run / "checkpoints")) >= last >= 3
    path.write_bytes(whole)
    end = max(checkpoint_steps(run / "checkpoints")) + 30
    assert unmask("train", "--run", run, "--resume", "--train.steps", end)[0] == 0
    assert unmask("train", "--run", other, *options, "--train.steps", end)[0] == 0
    assert_equal_weights(run, other, end)


# --- several processes --------------------------------------------------------------------------


@pytest.mark.slow
def test_damage_in_what_one_of_two_processes_reads_ends_both(
    options: list[Any], source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = source / "3.jsonl"  # of the second lane
    path.write_text(
        path.read_text().replace('{"text": "file 3 line 20', '["text": "file 3 line 20')
    )
    options += ["--train.batch-size", 16, "--train.steps", 100_000]
    assert together(2, "--run", tmp_path / "run", *options) == [BAD_INPUT] * 2
    told = capfd.readouterr().err
    assert told.count(f"{path}, line 21 is not JSON") == 1
    assert told.count("another process of this run has ended") == 1
    assert "Traceback" not in told


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize("kind", ["texts", "mixture", "prompts"])
def test_one_of_two_is_killed_and_others_go_on_in_other_numbers(
    kind: str, parallel: str, options: list[Any], source: Path, unmask: Call, tmp_path: Path
) -> None:
    options += [*kind_of(kind, source, tmp_path), "--train.batch-size", 17]
    options += ["--train.save-every", 4, "--validation.every", 4, "--train.learning-rate", 1e-3]
    run, whole = tmp_path / "run", tmp_path / "whole"
    assert unmask("train", "--run", whole, *options, "--train.steps", 32)[0] == 0
    together_options = ["--train.parallel", parallel, "--train.steps", 32]
    processes = start(2, ["--run", run, *options, *together_options])
    while not checkpoint_steps(run / "checkpoints"):
        time.sleep(0.01)
    processes[1].kill()
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [BAD_INPUT, -signal.SIGKILL]
    at = max(checkpoint_steps(run / "checkpoints"))
    assert at < 32
    more = ["--run", run, "--resume", "--train.parallel"]
    assert together(3, *more, parallel, "--train.steps", at + 4) == [0] * 3
    assert unmask("train", *more, "none", "--corpus.processes", 1, "--train.steps", 32)[0] == 0
    assert_the_same_run(whole, run, 32)
    a, b = (weights(folder, 32, "stream") for folder in (whole, run))
    assert all(a[name].equal(b[name]) for name in a)
