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
        """Append one line and flush it.

        Raises:
            OSError: it cannot be written now; what is missing comes with the next.
        """
        self._file.write(json.dumps(record, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Scalars:
    """Sends every number of a record, named ``kind/key``, somewhere else."""

    def __init__(
        self, log: Callable[[dict[str, float], int], object], close: Callable[[], object]
    ) -> None:
        self._log, self._close = log, close

    def write(self, record: dict[str, Any]) -> None:
        """Log the numbers under the record's step."""
        numbers = {
            f"{record['kind']}/{key}": float(value)
            for key, value in record.items()
            if key != "step" and isinstance(value, int | float)
        }
        self._log(numbers, record["step"])

    def close(self) -> None:
        """Flush and let go."""
        self._close()


def tensorboard(folder: Path) -> Sink:
    """TensorBoard event files in the run's folder."""
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415

    writer = SummaryWriter(str(folder / "tensorboard"))

    def log(numbers: dict[str, float], step: int) -> None:
        for name, value in numbers.items():
            writer.add_scalar(name, value, step)

    return Scalars(log, writer.close)


def wandb(folder: Path) -> Sink:
    """Weights & Biases; its own environment variables configure it."""
    import wandb as service  # noqa: PLC0415

    run = service.init(project="unmask", name=folder.name, dir=str(folder), resume="allow")
    return Scalars(lambda numbers, step: run.log(numbers, step=step), run.finish)


SINKS: dict[str, Callable[[Path], Sink]] = {"tensorboard": tensorboard, "wandb": wandb}
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
                f"train.log_to {name} needs an extra: pip install 'unmask[{name}]'"
            ) from None


def open_sinks(folder: Path, names: Iterable[str]) -> list[Sink]:
    """Open ``metrics.jsonl`` in a run's folder and the other sinks that were asked for."""
    return [Jsonl(folder / METRICS), *(SINKS[name](folder) for name in names)]


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
