"""``unmask analyze interventions``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from unmask.analyze.interventions.study import interventions
from unmask.cli.base import (
    DEFAULT_PRESET,
    PRESET_HELP,
    STOPPED,
    base_config,
    checked_jobs,
    show_study,
)
from unmask.compare import Interrupted
from unmask.config import Config


@dataclass
class InterventionsArguments:
    """Train the same recipes with and without locality, and measure what becomes of their gaps.

    Two comparisons on the same text: its tokens as they stand, and in one fixed random order of the
    positions. Stop it and repeat the command, it goes on. Every option of unmask train is an
    option here. Example: unmask analyze interventions --preset nano --run runs/why --seeds 3
    """

    config_values: Annotated[Config, tyro.conf.arg(name="")]
    run: Path
    """Folder of both comparisons."""
    recipes: str = "standard,bell,ar"
    """The baseline, which masks, then what is compared with it, an autoregressive twin among it."""
    intervention: str = "permute-positions"
    """Transform of the second comparison; --corpus.transform is that of the first."""
    seeds: int = 1
    """Seeds for each recipe; an interval needs at least two."""
    jobs: int = 0
    """Runs at once, the cores divided between them; 0: one for each two cores."""
    preset: Annotated[str, tyro.conf.arg(help=PRESET_HELP)] = DEFAULT_PRESET
    config: Path | None = None
    """YAML file with any of the options below, over the preset."""
    out: Path | None = None
    """Where interventions.json and the page go; None: the --run folder."""
    json: bool = False
    """Print the record as JSON instead of the conclusion."""


def interventions_command(arguments: Sequence[str], console: Console) -> int:
    """Run ``unmask analyze interventions``."""
    parsed = tyro.cli(
        InterventionsArguments,
        prog="unmask analyze interventions",
        args=arguments,
        default=InterventionsArguments(base_config(arguments), tyro.MISSING),
    )
    jobs = checked_jobs(parsed.seeds, parsed.jobs)
    out = parsed.out or parsed.run
    try:
        record = interventions(
            parsed.config_values,
            parsed.run,
            out,
            recipes=parsed.recipes,
            transform=parsed.intervention,
            seeds=parsed.seeds,
            jobs=jobs,
            console=Console(stderr=True),
        )
    except Interrupted as stopped:
        console.print(STOPPED)
        return 128 + stopped.number
    show_study(record, out / "index.html", parsed.json, console)
    return 0
