"""Checkpoints that were cut, altered, swapped or forged: named, and the whole one before them."""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from test_processes import together
from test_refused import config_of

from unmask.base.errors import UserError
from unmask.base.files import sha256_of
from unmask.config import load_config, with_options
from unmask.run import open_run, train_run
from unmask.train import checkpoint
from unmask.train.checkpoint import MANIFEST, find_checkpoint

Call = Callable[..., tuple[int, str]]
QUIET = Console(quiet=True)
STATE = {"recipe": "adaptive", "train.ema": 0.5, "train.spike": 9, "train.log_every": 3,
         "train.keep": 9}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run with checkpoints of steps 2 and 4, of every kind of file."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "texts").mkdir()
    for number in range(20):
        text = "the cat sat on a mat and saw one big dog run far " * (number % 5 + 3)
        (folder / f"texts/{number:02}.txt").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNMASK_CACHE", str(folder / "cache"))
        config = config_of(folder / "texts", **STATE, **{"train.steps": 8})
        train_run(config, folder / "run", resume=False, console=QUIET)
        for step in (6, 8):
            shutil.rmtree(folder / f"run/checkpoints/step-{step:08d}", ignore_errors=True)
        yield folder / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def divide(folder: Path) -> None:
    """Write a checkpoint again as processes that divide the weights do, in one part."""
    from unmask.train.shards import save_shards

    found = checkpoint._read_manifest(folder)
    assert found is not None
    for path in list(folder.glob("*.safetensors")):
        save_shards(folder / path.stem, load_file(path))
        path.unlink()
    final = folder.with_name("whole")
    (folder / MANIFEST).unlink()
    checkpoint._finish(folder, final, found.progress)
    final.rename(folder)


def truncate(path: Path, _: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path, _: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path, _: Path) -> None:
    data = bytearray(path.read_bytes())
    place = random.Random(len(data)).randrange(len(data))
    data[place] ^= 16
    path.write_bytes(data)


def lengthen(path: Path, _: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def take_from_before(path: Path, before: Path) -> None:
    shutil.copyfile(before, path)


def remove(path: Path, _: Path) -> None:
    path.unlink()


def link_to_nothing(path: Path, _: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


@pytest.mark.parametrize("divided", [False, True])
@pytest.mark.parametrize(
    "harm", [truncate, empty, flip, lengthen, take_from_before, remove, link_to_nothing]
)
def test_every_file_is_named_and_so_is_the_checkpoint_before(
    harm: Callable[[Path, Path], None], divided: bool, trained: Path, tmp_path: Path
) -> None:
    checkpoints = Path(shutil.copytree(trained / "checkpoints", tmp_path / "checkpoints"))
    before, last = checkpoints / "step-00000002", checkpoints / "step-00000004"
    if divided:
        divide(before), divide(last)
    files = [path.relative_to(last) for path in last.rglob("*.*") if path.is_file()]
    kinds = ["model", "optimizer", "ema", "guard", "rates", "recent", "checkpoint"]
    assert sorted({file.parts[0].partition(".")[0] for file in files}) == sorted(kinds)
    kept = shutil.copytree(last, tmp_path / "kept")
    for file in files:
        harm(last / file, before / file)
        name = MANIFEST if file.name == MANIFEST else file.as_posix()
        with pytest.raises(UserError) as caught:
            find_checkpoint(checkpoints)
        assert f"{last} is damaged ({name}" in str(caught.value)
        assert f"the latest whole one before it is {before}" in str(caught.value)
        shutil.rmtree(last)
        shutil.copytree(kept, last)
    assert find_checkpoint(checkpoints) is not None


def test_files_and_checkpoints_that_change_places(run: Path) -> None:
    before, last = (run / f"checkpoints/step-0000000{step}" for step in (2, 4))
    (last / "model.safetensors").rename(last / "x")
    (last / "ema.safetensors").rename(last / "model.safetensors")
    (last / "x").rename(last / "ema.safetensors")
    with pytest.raises(UserError, match=r"(ema|model)\.safetensors is truncated or altered"):
        resume(run)
    shutil.rmtree(last)
    before.rename(last)
    with pytest.raises(UserError, match=r"checkpoint\.json is missing .* no whole one before it"):
        resume(run)


def test_a_foreign_part_among_the_divided_ones(run: Path) -> None:
    last = run / "checkpoints/step-00000004"
    divide(last)
    part = next((last / "model").iterdir())
    shutil.copyfile(part, last / "model" / f"more-{part.name}")
    with pytest.raises(UserError, match=r"model/more-.* is not in checkpoint.json"):
        resume(run)


def resume(run: Path) -> None:
    config = with_options(load_config(run / "config.yaml"), {"train.steps": 8})
    train_run(config, run, resume=True, console=QUIET)


def forge(folder: Path, name: str, content: bytes | dict[str, torch.Tensor]) -> None:
    """Put a file in the place of a checkpoint's, and vouch for it."""
    if isinstance(content, bytes):
        (folder / name).write_bytes(content)
    else:
        save_file(content, folder / name)
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["sha256"]  # as those have it that were written before there was one
    manifest["files"][name] = sha256_of(folder / name)
    (folder / MANIFEST).write_text(json.dumps(manifest))


FORGED = {
    "no tensors at all": b"PK\3\4 what a pickle of torch begins with",
    "a header without end": (2**60).to_bytes(8, "little") + b"{}",
    "other tensors": {"other": torch.zeros(2)},
    "a type of its own": {"w": torch.zeros(2, dtype=torch.complex64)},
}


@pytest.mark.parametrize("forged", FORGED)
@pytest.mark.parametrize("name", ["model", "optimizer", "ema", "guard", "rates", "recent"])
def test_a_file_that_is_vouched_for_and_is_another(name: str, forged: str, run: Path) -> None:
    """Whoever can write the manifest can say anything; it is read with care all the same."""
    last = run / "checkpoints/step-00000004"
    forge(last, f"{name}.safetensors", FORGED[forged])
    with pytest.raises(UserError, match=rf"{last}.*({name}|another network)"):
        resume(run)
    if name == "ema":  # which is what is opened
        with pytest.raises(UserError, match=f"{last}"):
            open_run(run)


@pytest.mark.parametrize("forged", ["no tensors at all", "other tensors"])
def test_a_forged_part(forged: str, run: Path) -> None:
    last = run / "checkpoints/step-00000004"
    divide(last)
    part = next((last / "model").iterdir())
    forge(last, f"model/{part.name}", FORGED[forged])
    with pytest.raises(UserError, match=f"{last}"):
        resume(run)


@pytest.mark.slow
@pytest.mark.parametrize("harm", [truncate, flip, remove])
def test_a_part_of_a_process_is_damaged(
    harm: Callable[[Path, Path], None],
    small: list[str],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    options = [*small, "--train.parallel", "fsdp", "--validation.every", 2, "--train.steps", 4]
    assert together(2, "--run", run, *options) == [0, 0]
    last = run / "checkpoints/step-00000004"
    parts = sorted((last / "optimizer").iterdir())
    assert len(parts) == 2
    kept = shutil.copytree(last, tmp_path / "kept")
    for part in parts:
        harm(part, part)
        assert together(2, "--run", run, "--resume", "--train.steps", 6) == [2, 2]
        told = capfd.readouterr().err
        assert told.count(f"is damaged (optimizer/{part.name} is") == 1
        assert f"the latest whole one before it is {run}/checkpoints/step-00000002" in told
        assert told.count("process 0 has ended: see what it says") == 1
        shutil.rmtree(last)
        shutil.copytree(kept, last)
    shutil.rmtree(last)  # as it advises
    assert together(2, "--run", run, "--resume", "--train.steps", 6) == [0, 0]
