"""What the commands share: what their options are laid over, and what several of them say."""

import argparse
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import tyro
from pydantic import Field

from unmask.base.errors import UserError
from unmask.base.paths import near_paths
from unmask.base.section import Section
from unmask.cli.options import parse
from unmask.cli.output import print_result
from unmask.config import (
    Config,
    compared_recipes,
    load_config,
    load_preset,
    preset_as_shown,
    preset_names,
)

if TYPE_CHECKING:
    from unmask.base.console import PlainConsole
    from unmask.compare.launch import Interrupted
    from unmask.run import Run

DEFAULT_PRESET = "nano"
_FIRST = ("--preset", "--config", "--run", "--init")
ADAPTING_PRESET = "pretrained"
"""Instead of it, where a run starts from a pretrained model."""
PRESET_HELP = f"Where to start: {', '.join(preset_names())}, or several, the last over the first."


class ModelOptions(Section):
    """What every command that opens a trained model takes."""

    checkpoint: str = Field(
        "last", description="last, best (lowest validation NELBO), or a step number"
    )
    device: str = Field("auto", description="auto, cpu, cuda or mps")
    seed: int = Field(0, ge=0, description="another seed, other masks and texts")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        False, description="print JSON and nothing else"
    )


class RunArguments(ModelOptions):
    """What every command on a trained run takes."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")] = Field(
        description="folder of the run"
    )


class TrainedOptions(Section):
    """What every command that trains takes."""

    config_values: Annotated[Config, tyro.conf.arg(name="")] = Field(description="of a run")
    preset: str = Field(DEFAULT_PRESET, description=PRESET_HELP)
    config: Path | None = Field(
        None, description="YAML file with any of the options below, over the preset"
    )


class ComparisonOptions(TrainedOptions):
    """What every command that compares runs takes."""

    seeds: int = Field(1, ge=1, description="seeds for each recipe; an interval needs at least two")
    jobs: int = Field(
        0, ge=0, description="runs at once, the cores divided between them; 0: one for two cores"
    )

    @property
    def jobs_at_once(self) -> int:
        """Runs at once: as asked, or for 0 one for each two cores."""
        return self.jobs or max(1, (os.cpu_count() or 1) // 2)


class StudyOptions(Section):
    """What every command that writes a study takes."""

    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        False, description="print the record as JSON instead of the conclusion"
    )


T = TypeVar("T", bound=TrainedOptions)


def parse_trained(kind: type[T], command: str, arguments: Sequence[str], **defaults: Any) -> T:
    """Read the options of a command that trains, over preset, file and other defaults."""
    values = {"config_values": base_config(arguments), "run": tyro.MISSING, **defaults}
    return parse(kind, command, arguments, **values)


def open_on_device(folder: Path, asked: ModelOptions) -> "Run":
    """Open a run with the checkpoint and on the device that are asked for."""
    from unmask.run import open_run
    from unmask.train.device import choose_device

    device = choose_device(asked.device)  # told before anything is read
    run = open_run(folder, asked.checkpoint)
    run.model.to(device)
    return run


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show on a terminal's standard error how far the work is: called with what is done of what."""
    from rich.progress import Progress

    from unmask.base.console import PlainConsole

    console = PlainConsole(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def stopped(interrupted: "Interrupted", console: "PlainConsole") -> int:
    """Say what is left of a comparison that a signal ended; the exit status."""
    console.print("stopped, and the runs have saved themselves; repeat the command to go on")
    return 128 + interrupted.number


def print_json(record: Any) -> None:
    """Print a record as one line of JSON."""
    print_result(json.dumps(record, allow_nan=False))


def show_study(record: dict[str, Any], page: Path, as_json: bool) -> None:
    """Print a study's record as JSON, or its conclusion and where its page is."""
    if as_json:
        print_json(record)
        return
    for line in record["conclusion"]:
        print_result(line)
    print_result(f"records and page: {page}")


def run_folder(folder: Path) -> Path:
    """A folder that holds a run.

    Raises:
        UserError: it does not; what is near it is named.
    """
    if not (folder / "config.yaml").is_file():
        raise UserError(f"{folder} is not a run: it holds no config.yaml{near_paths(str(folder))}")
    return folder


def check_output(file: Path) -> None:
    """Tell before any work that a result could not be written.

    Raises:
        UserError: the file is a folder, or its folder is not there or cannot be written to.
    """
    if file.is_dir():
        raise UserError(f"out: {file} is a folder")
    if not file.parent.is_dir():
        near = near_paths(str(file.parent))
        raise UserError(f"out: there is no folder {file.parent}{near}")
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise UserError(f"out: {file} cannot be written")


def default_recipes(arguments: Sequence[str]) -> str:
    """The recipes that the preset compares."""
    return compared_recipes(_known(arguments).preset or DEFAULT_PRESET)


def base_config(arguments: Sequence[str]) -> Config:
    """What the options are laid over: the resumed run's configuration, or preset and file."""
    known = _known(arguments)
    if {"-h", "--help"} & {*arguments} and not (known.resume or known.config):
        return preset_as_shown(_preset(known))
    if known.resume and known.run and not (known.preset or known.config):
        saved = known.run / "config.yaml"
        if saved.is_file():
            return load_config(saved)
    base = load_preset(_preset(known))
    return load_config(known.config, base) if known.config else base


def _preset(known: argparse.Namespace) -> str:
    if known.preset:
        return str(known.preset)
    return ADAPTING_PRESET if known.init else DEFAULT_PRESET


def _known(arguments: Sequence[str]) -> argparse.Namespace:
    """The options that decide what the defaults of the others are."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset")
    first.add_argument("--config", type=Path)
    first.add_argument("--init")
    first.add_argument("--run", type=Path)
    first.add_argument("--resume", action="store_true")
    return first.parse_known_args(_as_pairs(arguments))[0]


def _as_pairs(arguments: Sequence[str]) -> list[str]:
    """Drop a trailing option without its value: the full parser says what is wrong with it."""
    listed = list(arguments)
    return listed[:-1] if listed and listed[-1] in _FIRST else listed
