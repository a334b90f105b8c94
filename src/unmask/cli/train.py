"""``unmask train``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from unmask.cli.base import DEFAULT_PRESET, PRESET_HELP, base_config
from unmask.config import Config
from unmask.run import train_run


@dataclass
class TrainArguments:
    """Train a masked diffusion language model (or its autoregressive twin) in a run folder.

    The configuration is put together from a preset, then a YAML file, then the options given here.
    Example: unmask train --preset nano --run runs/a --recipe bell:mean=0.4,std=0.15
    """

    config_values: Annotated[Config, tyro.conf.arg(name="")]
    run: Path
    """Folder of the run: config.yaml, metrics.jsonl and checkpoints/ go there."""
    preset: Annotated[str, tyro.conf.arg(help=PRESET_HELP)] = DEFAULT_PRESET
    config: Path | None = None
    """YAML file with any of the options below, over the preset (a run's config.yaml repeats it)."""
    resume: bool = False
    """Continue the run that is in the folder where its latest checkpoint left it."""


def train_command(arguments: Sequence[str], console: Console) -> int:
    """Run ``unmask train``: 0 when done, 128 + the signal's number when stopped by one."""
    parsed = tyro.cli(
        TrainArguments,
        prog="unmask train",
        args=arguments,
        default=TrainArguments(base_config(arguments), tyro.MISSING),
    )
    outcome = train_run(parsed.config_values, parsed.run, resume=parsed.resume, console=console)
    if outcome.signal is not None:
        console.print(
            f"stopped at step {outcome.progress.step:,} and saved; to go on: "
            f"unmask train --run {parsed.run} --resume"
        )
        return 128 + outcome.signal
    console.print(f"done: {parsed.run}; for samples: unmask sample {parsed.run}")
    return 0
