"""Checkpoints: folders of safetensors files with a manifest, whole or absent.

RUN/checkpoints/step-00000200/
    model.safetensors        weights
    ema.safetensors          averaged weights, if the run keeps them
    optimizer.safetensors    the optimisers' state
    rates.safetensors        what the last steps met, by mask rate, of a recipe that fits its rates
    recent.safetensors       what the next log line is to say, if steps were taken since the last
    checkpoint.json          step, counters, NELBO if measured, SHA-256 of every file and of itself

Of weights that are divided between processes, each file is a folder (``model/``) into which every
process has written its part (`unmask.train.sharded`).
"""

import json
import re
import shutil
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from unmask.base.errors import UserError, shown
from unmask.base.files import parse_json, read_utf8, sha256_of, sync_folder, write_whole
from unmask.base.numbers import LARGEST_COUNT
from unmask.base.section import Section
from unmask.train.processes import ALONE, Processes
from unmask.train.sharded import fill, is_divided

MANIFEST = "checkpoint.json"
Sizes = dict[str, tuple[torch.Size, torch.dtype]]
"""Names of tensors, each with its shape and type."""
_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Types of tensors by their names in a safetensors file."""


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
        step: optimiser steps done.
        tokens_seen: tokens in the batches so far.
        seconds: time spent training, without evaluations and checkpoints.
        flops: floating-point operations of the training steps; None in a run from before they were
            counted.
        nelbo: the validation bound at this step in nats per token, if it was measured.
    """

    step: int = 0
    tokens_seen: int = 0
    seconds: float = 0.0
    flops: float | None = 0.0
    nelbo: float | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's folder and manifest; the files are read on demand."""

    folder: Path
    progress: Progress
    digests: dict[str, str]

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        """The tensors of one of its files (``model``, ``ema``, ``optimizer``), on the CPU.

        Raises:
            UserError: it holds no such file.
        """
        sizes = self.sizes(name).items()
        tensors = {key: torch.empty(shape, dtype=dtype) for key, (shape, dtype) in sizes}
        self.fill(name, tensors)
        return tensors

    def sizes(self, name: str) -> Sizes:
        """The tensors of one of its files: the shape and type of each.

        Raises:
            UserError: it holds no such file.
        """
        if not self.has(name):
            raise UserError(f"the checkpoint {self.folder} holds no {name}.safetensors")
        if self._divided(name):
            from unmask.train.shards import shard_sizes  # noqa: PLC0415 - slow to import

            return shard_sizes(self.folder / name)
        with safe_open(self.folder / f"{name}.safetensors", "pt") as file:
            kept = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 - no mapping
            return {
                key: (torch.Size(part.get_shape()), _TYPES[part.get_dtype()])
                for key, part in kept.items()
            }

    def fill(self, name: str, into: dict[str, torch.Tensor]) -> None:
        """Give tensors, whole or divided between processes, the values in one of its files."""
        if self._divided(name):
            from unmask.train.shards import load_shards  # noqa: PLC0415 - slow to import

            load_shards(self.folder / name, into)
            return
        with safe_open(self.folder / f"{name}.safetensors", "pt") as file:
            for key, target in into.items():
                fill(target, file.get_tensor(key))

    def load_into(self, module: nn.Module, name: str) -> None:
        """Give a module the weights of one of its files.

        Raises:
            UserError: they are another network's.
        """
        weights = module.state_dict()
        kept = {key: shape for key, (shape, _) in self.sizes(name).items()}
        if kept != {key: value.shape for key, value in weights.items()}:
            raise UserError(
                f"the checkpoint {self.folder} holds another network than the run's config.yaml "
                "and tokenizer: one of them was altered"
            )
        self.fill(name, weights)

    def has(self, name: str) -> bool:
        """Whether it holds that file."""
        return f"{name}.safetensors" in self.digests or self._divided(name)

    def _divided(self, name: str) -> bool:
        return any(file.startswith(f"{name}/") for file in self.digests)


def save_checkpoint(
    folder: Path,
    progress: Progress,
    files: dict[str, dict[str, torch.Tensor]],
    processes: Processes = ALONE,
) -> Path:
    """Write a checkpoint into a run's ``checkpoints`` folder, all of it or nothing.

    Args:
        folder: the ``checkpoints`` folder, the same for all processes.
        progress: goes into the manifest.
        files: file name without ending -> tensors.
        processes: those that write it together, where they divide the tensors between them. Only
            the first one calls it otherwise.

    Raises:
        OSError: there is no room, or no permission; nothing is left of it.
    """
    final = folder / _name(progress.step)
    temporary = _hidden(final)
    with processes.first("the checkpoint cannot be begun") as here:
        if here:
            _sweep(folder)
            temporary.mkdir(parents=True)
    try:
        for name, tensors in files.items():
            if is_divided(tensors.values()):
                from unmask.train.shards import save_shards  # noqa: PLC0415 - slow to import

                save_shards(temporary / name, tensors)
            elif processes.main:
                contiguous = {key: value.detach().contiguous() for key, value in tensors.items()}
                write_whole(temporary / f"{name}.safetensors", save(contiguous))
        with processes.first("the checkpoint cannot be finished") as here:
            if here:
                _finish(temporary, final, progress)
    except OSError:
        if processes.main:
            shutil.rmtree(temporary, ignore_errors=True)  # others may need the room
        raise
    return final


def _finish(temporary: Path, final: Path, progress: Progress) -> None:
    written = sorted(path for path in temporary.rglob("*") if path.is_file())
    digests = {path.relative_to(temporary).as_posix(): sha256_of(path) for path in written}
    manifest = {**asdict(progress), "files": digests}
    manifest["sha256"] = _digest(manifest)
    write_whole(temporary / MANIFEST, json.dumps(manifest, indent=2).encode())
    shutil.rmtree(final, ignore_errors=True)  # a rerun of the same step after an interruption
    temporary.rename(final)
    sync_folder(final.parent)


def prune(folder: Path, keep: int) -> None:
    """Delete all but the ``keep`` latest checkpoints and the one with the lowest NELBO."""
    folders = [f for f in _folders(folder) if _read_manifest(f) is not None]
    best = _best(folders)
    for old in folders[:-keep]:
        if old != best:
            old.rename(_hidden(old))  # killed half-way, it leaves no half of a checkpoint
            shutil.rmtree(_hidden(old))


def find_checkpoint(folder: Path, which: str = "last") -> Checkpoint | None:
    """Open a checkpoint of a run after checking it against its manifest.

    Args:
        folder: the ``checkpoints`` folder.
        which: ``last``, ``best`` (lowest measured NELBO) or a step number.

    Returns:
        None if there is no checkpoint at all.

    Raises:
        UserError: no such step, or its files are missing, truncated or altered (the latest
            whole checkpoint before it is named).
    """
    folders = _folders(folder)
    if not folders:
        return None
    chosen = _choose(folders, which)
    problem = damage(chosen)
    if problem:
        whole = [f for f in folders if _step(f) < _step(chosen) and damage(f) is None]
        advice = (
            f"the latest whole one before it is {whole[-1]}: delete the damaged folder to use it"
            if whole
            else "there is no whole one before it"
        )
        raise UserError(f"checkpoint {chosen} is damaged ({problem}); {advice}")
    return _read_manifest(chosen)


def checkpoint_steps(folder: Path) -> list[int]:
    """The steps of the checkpoints in a run's ``checkpoints`` folder, increasing."""
    return [_step(f) for f in _folders(folder)]


def last_whole(folder: Path) -> Path | None:
    """Folder of the latest checkpoint that is not damaged."""
    return next((f for f in reversed(_folders(folder)) if damage(f) is None), None)


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint folder; None if it is whole."""
    checkpoint = _read_manifest(folder)
    if checkpoint is None:
        return f"{MANIFEST} is missing or unreadable"
    for name, digest in checkpoint.digests.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if sha256_of(path) != digest:
            return f"{name} is truncated or altered"
        if not _holds_tensors(path):
            return f"{name} is no safetensors file, or one of unknown types"
    for path in folder.glob("*/*"):  # all files of such a folder are read
        if (name := path.relative_to(folder).as_posix()) not in checkpoint.digests:
            return f"{name} is not in {MANIFEST}"
    return None


def _holds_tensors(path: Path) -> bool:
    if path.suffix != ".safetensors":
        return True
    try:
        with safe_open(path, "pt") as file:
            types = {file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118
    except SafetensorError:
        return False
    return types <= _TYPES.keys()


def _choose(folders: list[Path], which: str) -> Path:
    if which == "last":
        return folders[-1]
    if which == "best":
        return _best(folders) or folders[-1]
    by_step = {str(_step(folder)): folder for folder in folders}
    if which in by_step:
        return by_step[which]
    steps = ", ".join(by_step)
    raise UserError(f"no checkpoint {shown(which)}; valid: last, best, or a step among {steps}")


def _best(folders: list[Path]) -> Path | None:
    """The one with the lowest NELBO, of those where it was measured."""
    checkpoints = [c for c in map(_read_manifest, folders) if c is not None]
    bounds = [(c.progress.nelbo, c.folder) for c in checkpoints if c.progress.nelbo is not None]
    return min(bounds, default=(None, None))[1]


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _hidden(folder: Path) -> Path:
    """Where a checkpoint is while it is written or deleted."""
    return folder.with_name(f".{folder.name}.tmp")


def _sweep(folder: Path) -> None:
    """Delete what a process that was killed has left half written or half deleted."""
    for left in folder.glob(".step-*.tmp"):
        shutil.rmtree(left, ignore_errors=True)


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def _folders(folder: Path) -> list[Path]:
    """The checkpoints in a run's ``checkpoints`` folder, by step."""
    found = [f for f in folder.glob("step-*") if re.fullmatch(r"step-[0-9]{8,10}", f.name)]
    return sorted(found, key=_step)


class _Manifest(Section):
    """What ``checkpoint.json`` holds."""

    step: int = Field(ge=0, le=LARGEST_COUNT)
    tokens_seen: int = Field(ge=0)
    seconds: float = Field(ge=0)
    flops: float | None = Field(None, ge=0)
    nelbo: float | None
    files: dict[str, str]
    sha256: str | None = None  # of all the rest; the first manifests have none


def _digest(manifest: dict[str, Any]) -> str:
    rest = {name: value for name, value in manifest.items() if name != "sha256"}
    return sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _read_manifest(folder: Path) -> Checkpoint | None:
    """A checkpoint's manifest; None where there is none, or it is not that of this folder."""
    try:
        manifest = parse_json(read_utf8(folder / MANIFEST), MANIFEST)
        values = dict(_Manifest(**manifest)) if isinstance(manifest, dict) else {}
    except UserError:
        return None
    if not values or values.pop("sha256") not in (None, _digest(manifest)):
        return None
    digests = values.pop("files")
    inside = all(re.fullmatch(r"([a-z]+/)?[\w.-]+", name) for name in digests)
    if not inside or values["step"] != _step(folder):
        return None
    found = Checkpoint(folder, Progress(**values), digests)
    return found if found.has("model") else None
