"""``unmask compare``."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from unmask.cli.base import (
    DEFAULT_PRESET,
    PRESET_HELP,
    STOPPED,
    base_config,
    checked_jobs,
    default_recipes,
)
from unmask.compare import Interrupted, QualityOptions, compare, parse_arms, summary_table
from unmask.compare.report import write_report
from unmask.config import Config


@dataclass
class CompareArguments:
    """Train recipes side by side and measure how much sooner each reaches the baseline's bound.

    Runs go to RUN/<recipe>/seed-<s>; finished ones are used again and interrupted ones go on, so
    the command can be stopped and repeated. Every option of unmask train is an option here.
    Example: unmask compare --preset nano --run runs/cmp --recipes standard,bell --seeds 3
    """

    config_values: Annotated[Config, tyro.conf.arg(name="")]
    run: Path
    """Folder of the comparison: plan.json, the runs, comparison.json and report/ go there."""
    recipes: str = "standard,bell"
    """The baseline, then what is compared with it: NAME[:key=value,...][+train.option=value...];
    all: every named recipe, and bell:auto."""
    seeds: int = 1
    """Seeds for each recipe; an interval needs at least two."""
    jobs: int = 0
    """Runs at once, the cores divided between them; 0: one for each two cores."""
    evaluate: bool = False
    """Afterwards, measure every kept checkpoint (train.save-every, train.keep): the likelihood of
    --quality.corpora, and texts of its own under --quality.judge."""
    quality: QualityOptions = field(default_factory=QualityOptions)
    preset: Annotated[str, tyro.conf.arg(help=PRESET_HELP)] = DEFAULT_PRESET
    config: Path | None = None
    """YAML file with any of the options below, over the preset."""


def compare_command(arguments: Sequence[str], console: Console) -> int:
    """Run ``unmask compare``: 0 when every run is done, 1 if one diverged or failed."""
    parsed = tyro.cli(
        CompareArguments,
        prog="unmask compare",
        args=arguments,
        default=CompareArguments(base_config(arguments), tyro.MISSING, default_recipes(arguments)),
    )
    jobs = checked_jobs(parsed.seeds, parsed.jobs)
    arms = parse_arms(parsed.recipes, parsed.config_values)
    try:
        comparison = compare(
            arms,
            parsed.seeds,
            parsed.run,
            jobs=jobs,
            console=console,
            quality=parsed.quality if parsed.evaluate else None,
        )
    except Interrupted as stopped:
        console.print(STOPPED)
        return 128 + stopped.number
    console.print(summary_table(comparison))
    console.print(f"records: {parsed.run / 'comparison.json'}", soft_wrap=True)
    console.print(f"report:  {write_report(parsed.run)}", soft_wrap=True)
    return 0 if all(run.done for arm in comparison.arms for run in arm.runs) else 1
