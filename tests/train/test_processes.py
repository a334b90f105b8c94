"""Several processes train the run that one would."""

import json
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unmask.base.errors import UserError
from unmask.cli import main
from unmask.data.blocks import Blocks
from unmask.recipe.parse import parse_recipe
from unmask.train.batch import Batch, draw_batches
from unmask.train.checkpoint import find_checkpoint
from unmask.train.config import TrainConfig
from unmask.train.processes import Processes, started

Call = Callable[..., tuple[int, str]]
BAD_INPUT = 2


def _train(rank: int, size: int, port: int, arguments: list[str]) -> None:
    """A process as torchrun starts it."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os._exit(main(arguments))


def start(size: int, arguments: list[object]) -> list[Any]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fork = multiprocessing.get_context("fork")  # which imports nothing again
    words = ["train", *map(str, arguments)]
    processes = [fork.Process(target=_train, args=(r, size, port, words)) for r in range(size)]
    for process in processes:
        process.start()
    return processes


def together(size: int, *arguments: object) -> list[int | None]:
    """Exit statuses of the processes of ``unmask train ARGUMENTS``."""
    processes = start(size, [*arguments])
    for process in processes:
        process.join(timeout=120)
    for process in processes:
        process.kill()  # one that hangs has no status
    return [process.exitcode for process in processes]


def records(run: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    ours = ("seconds", "tokens_per_second", "flops_per_second")
    lines = map(json.loads, (run / name).read_text().splitlines())
    return [{k: v for k, v in line.items() if k not in ours} for line in lines]


def weights(run: Path, step: int, name: str = "model") -> dict[str, torch.Tensor]:
    found = find_checkpoint(run / "checkpoints", str(step))
    assert found is not None
    return found.tensors(name)


def nearly(value: Any) -> Any:
    if isinstance(value, list):
        return [nearly(part) for part in value]
    return pytest.approx(value, rel=2e-4, abs=1e-5) if isinstance(value, float) else value


def assert_the_same_run(a: Path, b: Path, step: int) -> None:
    """To the order of sums."""
    for name in ("metrics.jsonl", "blocks.jsonl"):
        for one, other in zip(records(a, name), records(b, name), strict=True):
            assert one.keys() == other.keys()
            for key, value in one.items():
                assert other[key] == nearly(value), (name, one["step"], key)
    files = [{p.relative_to(run) for p in run.iterdir()} for run in (a, b)]
    assert files[0] == files[1]
    for file in ("model", "ema", "optimizer"):
        if not (a / f"checkpoints/step-{step:08d}/{file}.safetensors").is_file():
            continue
        expected, found = weights(a, step, file), weights(b, step, file)
        assert expected.keys() == found.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=2e-3, atol=2e-4)


LATE = ["--model.late", 1, "--train.accumulation", 2]
STREAM = ["--corpus.streaming", "--corpus.valid-documents", 20, "--corpus.lanes", 2]
CASES = [
    ("fast:next-token=0.5@0.5/0@0.5", 2, LATE),
    *(
        pytest.param(recipe, size, options, marks=pytest.mark.slow)
        for recipe, size, options in [
            ("bell", 2, [*STREAM, "--train.batch-size", 17]),
            ("bell", 4, ["--train.batch-size", 9]),
            ("bell", 2, ["--train.optimizer", "muon", "--train.ema", 0.9, "--model.late", 1]),
            ("bell:next-token=0.3,mix=steps", 2, []),
            ("adaptive", 2, []),
            ("mirror", 4, ["--train.accumulation", 2]),
            ("puma", 2, []),
            ("mirror", 2, STREAM),
            ("ar", 2, ["--train.recompute"]),
            ("bell:next-token=0.3", 2, ["--model.self-conditioning", "--train.recompute"]),
            # a micro-batch of each kind on one process, of one kind on the other
            ("bell:next-token=0.2", 2, ["--train.batch-size", 3]),
        ]
    ),
]


@pytest.mark.parametrize(("recipe", "size", "options"), CASES)
@pytest.mark.parametrize("padded", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_they_train_the_run_of_one(
    recipe: str,
    size: int,
    options: list[object],
    parallel: str,
    padded: bool,
    unmask: Call,
    small: list[str],
    tmp_path: Path,
) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("".join(f"line {'x' * (i % 7)}{i}\n" for i in range(300)))
    options = [*small, "--train.steps", 6, "--validation.every", 3, "--recipe", recipe, *options]
    options += ["--train.learning-rate", 1e-3, "--validation.batch-size", 5]
    if padded:
        options += ["--corpus.source", f"{lines}:document=line", "--corpus.packing", "pad"]
    alone, several = tmp_path / "alone", tmp_path / "several"
    assert unmask("train", "--run", alone, *options)[0] == 0
    several_options = ["--train.parallel", parallel, *options]
    assert together(size, "--run", several, *several_options) == [0] * size
    assert_the_same_run(alone, several, 6)


def test_what_is_refused_is_told_by_one_and_nobody_waits(
    small: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("")
    assert together(2, "--run", tmp_path / "there", *small) == [BAD_INPUT] * 2
    told = capfd.readouterr().err
    assert told.count("exists already") == 1
    assert told.count("process 0 has ended: see what it says") == 1


@pytest.mark.slow
def test_each_process_needs_a_sequence(
    small: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = [*small, "--train.batch-size", 1]
    assert together(2, "--run", tmp_path / "run", *options) == [BAD_INPUT] * 2
    assert "2 processes for --train.batch-size 1" in capfd.readouterr().err


@pytest.mark.slow
def test_a_run_goes_on_with_other_numbers_of_processes(
    unmask: Call, small: list[str], tmp_path: Path
) -> None:
    options = [*small, "--validation.every", 4, "--recipe", "adaptive"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert unmask("train", "--run", whole, *options, "--train.steps", 12)[0] == 0
    assert together(2, "--run", parts, *options, "--train.steps", 4) == [0, 0]
    assert unmask("train", "--run", parts, "--resume", "--train.steps", 8)[0] == 0
    assert together(4, "--run", parts, "--resume", "--train.steps", 12) == [0] * 4
    assert_the_same_run(whole, parts, 12)


def test_divided_weights_go_on_in_any_number_of_processes(
    unmask: Call, small: list[str], tmp_path: Path
) -> None:
    options = [*small, "--validation.every", 2, "--recipe", "bell"]
    options += ["--train.optimizer", "muon", "--train.ema", 0.9, "--train.learning-rate", 3e-4]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    fsdp, on = ["--train.parallel", "fsdp"], ["--run", parts, "--resume"]
    assert unmask("train", "--run", whole, *options, "--train.steps", 8)[0] == 0
    assert together(2, "--run", parts, *options, *fsdp, "--train.steps", 2) == [0, 0]
    files = [path.name for path in (parts / "checkpoints/step-00000002/model").iterdir()]
    assert len(files) == 2  # each process has written a part
    assert together(3, *on, *fsdp, "--train.steps", 4) == [0] * 3
    alone = ["--train.parallel", "auto"]
    assert unmask("train", *on, *alone, "--train.steps", 6)[0] == 0
    assert (parts / "checkpoints/step-00000006/model.safetensors").is_file()
    assert together(2, *on, *fsdp, "--train.steps", 8) == [0, 0]
    assert_the_same_run(whole, parts, 8)
    # whoever opens the run finds all of them
    assert unmask("sample", parts, "--length", 8, "--steps", 4)[0] == 0
    part = next((parts / "checkpoints/step-00000008/ema").iterdir())
    part.write_bytes(part.read_bytes()[:-1])
    status, told = unmask("evaluate", parts)
    assert status == BAD_INPUT and f"ema/{part.name} is truncated or altered" in told


def test_a_divided_checkpoint_without_room_is_told_and_training_goes_on(
    small: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from unmask.train import checkpoint

    once = iter([True])

    def full(*args: object) -> None:
        if next(once, False):
            raise OSError(28, "No space left on device")
        shards_write(*args)

    shards_write = checkpoint.write_whole
    monkeypatch.setattr(checkpoint, "write_whole", full)
    options = [*small, "--train.parallel", "fsdp", "--train.steps", 6, "--train.save-every", 3]
    assert together(2, "--run", tmp_path / "run", *options) == [0, 0]
    assert (
        "not written: [Errno 28] No space left on device; training goes on"
        in capfd.readouterr().out
    )
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["step-00000006"]


@pytest.mark.slow
def test_a_stream_goes_on_with_other_numbers_of_processes(
    unmask: Call, small: list[str], tmp_path: Path
) -> None:
    """Each of two reads one of the lanes, and what they save says where both are."""
    options = [*small, *STREAM, "--validation.every", 4, "--recipe", "bell"]
    options += ["--train.batch-size", 16]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert unmask("train", "--run", whole, *options, "--train.steps", 12)[0] == 0
    assert together(2, "--run", parts, *options, "--train.steps", 4) == [0, 0]
    assert unmask("train", "--run", parts, "--resume", "--train.steps", 8)[0] == 0
    assert together(2, "--run", parts, "--resume", "--train.steps", 12) == [0] * 2
    assert_the_same_run(whole, parts, 12)
    where = (weights(run, 12, "stream") for run in (whole, parts))
    for a, b in zip(*(sorted(found.items()) for found in where), strict=True):
        assert a[0] == b[0] and a[1].equal(b[1])


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "number"), [(0, signal.SIGTERM), (1, signal.SIGUSR1)])
def test_a_signal_to_one_stops_all_after_the_same_step(
    rank: int, number: signal.Signals, small: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    processes = start(2, ["--run", run, *small, "--train.steps", 100_000])
    while not (run / "metrics.jsonl").is_file() or len(records(run)) < 5:
        time.sleep(0.05)
        assert all(process.is_alive() for process in processes)
    os.kill(processes[rank].pid, number)
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [128 + number] * 2
    (saved,) = (run / "checkpoints").iterdir()
    assert saved.name == f"step-{records(run)[-1]['step']:08d}"


@pytest.mark.slow
def test_a_loss_that_is_not_finite_is_told_by_one(
    small: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = [*small, "--train.learning-rate", 1e30, "--train.steps", 20]
    assert together(2, "--run", tmp_path / "run", *options) == [3, BAD_INPUT]
    assert capfd.readouterr().err.count("training failed") == 1


@pytest.mark.parametrize("recipe", ["bell", "mirror", "bell:next-token=0.3", "fast"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_shares_are_the_batch_and_no_two_processes_have_a_mask(recipe: str, size: int) -> None:
    tokens = np.arange(50 * 64, dtype=np.uint16).reshape(50, 64)
    blocks = Blocks(tokens, None, tokens.size, tokens.size)
    config = TrainConfig(batch_size=10, accumulation=2, steps=20)

    def drawn(mine: torch.Tensor | None) -> list[Batch]:
        batches = draw_batches(
            parse_recipe(recipe), blocks, config, seed=0, step=7, device=torch.device("cpu"),
            mine=mine,
        )  # fmt: skip
        return list(batches)

    def rows(batches: list[Batch]) -> list[tuple[object, ...]]:
        return [
            (int(x[0]), tuple(mask.tolist()), float(t), float(w), batch.n_tokens, batch.phase)
            for batch in batches
            for x, mask, t, w in zip(batch.x, batch.mask, batch.t, batch.weights, strict=True)
        ]

    shares = [drawn(Processes(rank, size).share(10)) for rank in range(size)]
    assert all([batch.last for batch in share] == [False] * (len(share) - 1) + [True]
               for share in shares)  # fmt: skip
    found = [row for share in shares for row in rows(share)]
    assert sorted(found) == sorted(rows(drawn(None))) and len(found) == 10
    masks = [row[1] for row in found if not all(row[1])]
    assert len(set(masks)) == len(masks)


def test_how_it_was_started_and_what_is_asked_for_must_agree(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for parallel in ("auto", "none"):
        with started(parallel) as processes:
            assert processes == Processes() and processes.main
    with pytest.raises(UserError, match="that torchrun starts; valid: auto, none"), started("ddp"):
        pass
    monkeypatch.setenv("WORLD_SIZE", "4")
    with (
        pytest.raises(UserError, match="4 processes were started; valid: auto, ddp"),
        started("none"),
    ):
        pass
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(UserError, match=r"but LOCAL_RANK, .* not set: torchrun"), started("auto"):
        pass


def test_each_process_has_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, cuda, mps = (torch.device(name) for name in ("cpu", "cuda", "mps"))
    assert Processes(3, 4, 3).device(cpu) == cpu and Processes().device(cuda) == cuda
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    assert Processes(3, 4, 1).device(cuda) == torch.device("cuda", 1)
    with pytest.raises(UserError, match=r"process 2 of this machine has no CUDA device: .* 2;"):
        Processes(2, 4, 2).device(cuda)
    with pytest.raises(UserError, match="not on mps"):
        Processes(0, 2).device(mps)


@pytest.mark.slow
def test_divided_weights_are_gathered_in_bfloat16(
    unmask: Call, small: list[str], tmp_path: Path
) -> None:
    options = [*small, "--train.precision", "bf16", "--train.steps", 8, "--validation.every", 8]
    alone, several = tmp_path / "alone", tmp_path / "several"
    assert unmask("train", "--run", alone, *options)[0] == 0
    assert together(2, "--run", several, *options, "--train.parallel", "fsdp") == [0, 0]
    (expected, found) = (records(run)[-1]["nelbo"] for run in (alone, several))
    assert found == pytest.approx(expected, abs=0.01) and found < records(alone)[0]["nelbo"] - 0.2
    assert all(value.dtype == torch.float32 for value in weights(several, 8).values())
