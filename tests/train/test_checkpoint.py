"""Checkpoints are whole or absent, checked when read, and pruned to the latest and the best."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from unmask.base.errors import UserError
from unmask.train import checkpoint as module
from unmask.train.checkpoint import (
    Progress,
    damage,
    find_checkpoint,
    last_whole,
    prune,
    save_checkpoint,
)

Call = Callable[..., tuple[int, str]]


def tensors(value: float) -> dict[str, torch.Tensor]:
    return {"w": torch.full((3, 4), value), "step": torch.tensor(value)}


def save(folder: Path, step: int, nelbo: float | None = None) -> Path:
    return save_checkpoint(folder, Progress(step, nelbo=nelbo), {"model": tensors(step)})


def steps(folder: Path) -> list[int]:
    return sorted(int(p.name.removeprefix("step-")) for p in folder.glob("step-*"))


def test_round_trip(tmp_path: Path) -> None:
    progress = Progress(7, tokens_seen=123, seconds=4.5, nelbo=1.25)
    view = torch.arange(12.0).view(3, 4).T  # not contiguous
    save_checkpoint(tmp_path, progress, {"model": {"w": view}, "ema": tensors(2)})
    found = find_checkpoint(tmp_path)
    assert found is not None and found.progress == progress
    assert torch.equal(found.tensors("model")["w"], view)
    assert found.has("ema") and not found.has("optimizer")
    assert find_checkpoint(tmp_path / "nowhere") is None


def test_the_latest_the_best_or_a_step(tmp_path: Path) -> None:
    for step, nelbo in ((1, 3.0), (2, 1.0), (3, 2.0), (4, None)):
        save(tmp_path, step, nelbo)
    for which, step in (("last", 4), ("best", 2), ("3", 3)):
        found = find_checkpoint(tmp_path, which)
        assert found is not None and found.progress.step == step
    with pytest.raises(UserError, match="valid: last, best, or a step among 1, 2, 3, 4"):
        find_checkpoint(tmp_path, "9")


def test_pruning_keeps_the_latest_and_the_best(tmp_path: Path) -> None:
    for step, nelbo in ((1, 3.0), (2, 1.0), (3, 2.0), (4, 2.5), (5, None)):
        save(tmp_path, step, nelbo)
    prune(tmp_path, keep=2)
    assert steps(tmp_path) == [2, 4, 5]
    prune(tmp_path, keep=1)
    assert steps(tmp_path) == [2, 5]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


def tamper(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("harm", [truncate, tamper, Path.unlink])
def test_damage_is_told_and_the_previous_whole_one_named(
    harm: Callable[[Path], None], tmp_path: Path
) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step)
    harm(tmp_path / "step-00000002/model.safetensors")
    harm(tmp_path / "step-00000003/model.safetensors")
    with pytest.raises(UserError) as caught:
        find_checkpoint(tmp_path)
    assert "step-00000003 is damaged" in str(caught.value)
    assert str(tmp_path / "step-00000001") in str(caught.value)
    assert last_whole(tmp_path) == tmp_path / "step-00000001"


def test_a_damaged_manifest_and_no_whole_one_left(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / "step-00000001/checkpoint.json").write_text('{"step": 1')
    with pytest.raises(UserError, match=r"checkpoint.json .* no whole one"):
        find_checkpoint(tmp_path)


def test_an_interrupted_save_leaves_the_old_ones_and_no_half_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1)

    def crash(path: Path, data: bytes) -> None:
        if path.name == "checkpoint.json":
            raise OSError("disk full")
        path.write_bytes(data)

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_whole", crash)
        with pytest.raises(OSError, match="disk full"):
            save(tmp_path, 2)
    assert steps(tmp_path) == [1] and damage(tmp_path / "step-00000001") is None
    save(tmp_path, 2)  # over the leftovers
    assert steps(tmp_path) == [1, 2]
    assert not list(tmp_path.glob(".*"))


def test_resuming_and_sampling_from_a_damaged_checkpoint_is_one_clear_error(
    unmask: Call, small: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    options = ["--train.steps", "6", "--validation.every", "3"]
    assert unmask("train", "--run", run, *small, *options)[0] == 0
    tamper(run / "checkpoints/step-00000006/optimizer.safetensors")
    for command in (
        ("train", "--run", run, "--resume", "--train.steps", "9"),
        ("sample", run, "--length", "8"),
    ):
        status, text = unmask(*command)
        assert status == 2
        assert "step-00000006 is damaged" in text and "step-00000003" in text
    assert unmask("sample", run, "--length", 8, "--checkpoint", 3)[0] == 0
