"""The record of a run, one JSON object a line, and where else it is sent.

RUN/metrics.jsonl   training and evaluation lines
RUN/blocks.jsonl    for each evaluation, the bound of every validation block: what paired
                    comparisons and held-out halves are computed from
"""

import json
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from unmask.base.errors import UserError
from unmask.base.files import write_whole

METRICS, BLOCKS = "metrics.jsonl", "blocks.jsonl"


class Sink(Protocol):
    """Somewhere that training and evaluation records go."""

    def write(self, record: dict[str, Any]) -> None:
        """Take one record; ``step`` and ``kind`` are among its keys."""

    def close(self) -> None:
        """Flush and let go."""


class Jsonl:
    """Appends records to a file, a line each."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def write(self, record: dict[str, Any]) -> None:
        """Append one line and flush it."""
        self._file.write(json.dumps(record, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class TensorBoard:
    """Scalars to TensorBoard event files in the run's folder."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415

        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def write(self, record: dict[str, Any]) -> None:
        """Add every number of the record under ``kind/key``."""
        for key, value in _numbers(record):
            self._writer.add_scalar(f"{record['kind']}/{key}", value, record["step"])

    def close(self) -> None:
        """Flush and close."""
        self._writer.close()


class WandB:
    """Scalars to Weights & Biases; its own environment variables configure it."""

    def __init__(self, folder: Path) -> None:
        import wandb  # noqa: PLC0415

        self._run = wandb.init(project="unmask", name=folder.name, dir=str(folder), resume="allow")

    def write(self, record: dict[str, Any]) -> None:
        """Log every number of the record under ``kind/key``."""
        values = {f"{record['kind']}/{key}": value for key, value in _numbers(record)}
        self._run.log(values, step=record["step"])

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


SINKS: dict[str, Callable[[Path], Sink]] = {"tensorboard": TensorBoard, "wandb": WandB}
_MODULES = {"tensorboard": "torch.utils.tensorboard", "wandb": "wandb"}


def check_sinks(names: Iterable[str]) -> None:
    """Make sure that what the sinks need is installed.

    Raises:
        UserError: it is not; the extra that brings it is named.
    """
    for name in names:
        try:
            import_module(_MODULES[name])
        except ImportError:
            raise UserError(
                f"train.log-to {name} needs an extra: pip install 'unmask[{name}]'"
            ) from None


def open_sinks(folder: Path, names: Iterable[str]) -> list[Sink]:
    """Open ``metrics.jsonl`` in a run's folder and the other sinks that were asked for."""
    sinks: list[Sink] = [Jsonl(folder / METRICS)]
    sinks += [SINKS[name](folder) for name in names]
    return sinks


def forget_after(folder: Path, step: int) -> None:
    """Drop the records after a step: what a resumed run is about to write again."""
    for path in (folder / METRICS, folder / BLOCKS):
        if path.exists():
            records, damage = read_records(path)
            if damage:
                raise UserError(*damage)
            kept = [r for r in records if r["step"] <= step]
            write_whole(path, "".join(json.dumps(r) + "\n" for r in kept).encode())


def read_records(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The records in a file by step, and a sentence about each line that is none.

    A last line without its end was cut short by a crash, which is no damage. A file that is not
    there has no records.
    """
    if not path.is_file():
        return [], []
    records, damage = [], []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            record = json.loads(line)
            if type(record["step"]) is not int:
                raise TypeError
            records.append(record)
        except (ValueError, KeyError, TypeError, RecursionError):
            if line.strip():
                damage.append(f"{path}, line {number}, is damaged: it is no record of a step")
    return sorted(records, key=lambda record: record["step"]), damage


def _numbers(record: dict[str, Any]) -> list[tuple[str, float]]:
    return [
        (key, float(value))
        for key, value in record.items()
        if key != "step" and isinstance(value, int | float)
    ]
