"""What the commands share: what one is, the options' base, and what several of them say."""

import argparse
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from unmask.base.errors import UserError
from unmask.config import Config, compared_recipes, load_config, load_preset, preset_names

DEFAULT_PRESET = "nano"
PRESET_HELP = f"Where to start: {', '.join(preset_names())}, or several, the last over the first."


@dataclass(frozen=True)
class Command:
    """A command: (its arguments, where to print) -> exit status, and what it does in a line."""

    run: Callable[[Sequence[str], Console], int]
    summary: str


def list_commands(commands: Mapping[str, Command]) -> str:
    """A line for each, for the help."""
    width = max(map(len, commands)) + 2
    return "\n".join(f"  {name:<{width}}{c.summary}" for name, c in commands.items())


STOPPED = "stopped, and the runs have saved themselves; repeat the command to go on"
"""What is said when a signal ends a comparison."""


def checked_jobs(seeds: int, jobs: int) -> int:
    """Runs at once: as asked, or for 0 one for each two cores.

    Raises:
        UserError: a number of seeds or jobs that is out of range.
    """
    for name, value, least in (("seeds", seeds, 1), ("jobs", jobs, 0)):
        if value < least:
            raise UserError(f"--{name} must be at least {least}, not {value}")
    return jobs or max(1, (os.cpu_count() or 1) // 2)


def show_study(record: dict[str, Any], page: Path, as_json: bool, console: Console) -> None:
    """Print a study's record as JSON, or its conclusion and where its page is."""
    if as_json:
        print(json.dumps(record, allow_nan=False))
        return
    for line in record["conclusion"]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(f"records and page: {page}", highlight=False, soft_wrap=True)


def default_recipes(arguments: Sequence[str]) -> str:
    """The recipes that the preset compares."""
    return compared_recipes(_known(arguments).preset or DEFAULT_PRESET)


def base_config(arguments: Sequence[str]) -> Config:
    """What the options are laid over: the resumed run's configuration, or preset and file."""
    known = _known(arguments)
    if known.resume and known.run and not (known.preset or known.config):
        saved = known.run / "config.yaml"
        if saved.is_file():
            return load_config(saved)
    base = load_preset(known.preset or DEFAULT_PRESET)
    return load_config(known.config, base) if known.config else base


def _known(arguments: Sequence[str]) -> argparse.Namespace:
    """The options that decide what the defaults of the others are."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset")
    first.add_argument("--config", type=Path)
    first.add_argument("--run", type=Path)
    first.add_argument("--resume", action="store_true")
    return first.parse_known_args(_as_pairs(arguments))[0]


def _as_pairs(arguments: Sequence[str]) -> list[str]:
    """Drop a trailing option without its value: the full parser says what is wrong with it."""
    listed = list(arguments)
    return listed[:-1] if listed and listed[-1] in ("--preset", "--config", "--run") else listed
