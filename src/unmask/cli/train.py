"""``unmask train``."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from unmask.cli.base import TrainedOptions, parse_trained
from unmask.cli.options import says_flags


class TrainArguments(TrainedOptions):
    """Train a masked diffusion language model (or its autoregressive twin) in a run folder.

    The configuration is put together from a preset, then a YAML file, then the options given here.
    Example: unmask train --preset nano --run runs/a --recipe bell:mean=0.4,std=0.15
    """

    run: Path = Field(
        description="folder of the run: config.yaml, metrics.jsonl and checkpoints/ go there"
    )
    resume: bool = Field(
        False,
        description="continue the run that is in the folder where its latest checkpoint left it",
    )


@says_flags(TrainArguments)
def train_command(arguments: Sequence[str]) -> int:
    """Run ``unmask train``: 0 when done, 128 + the signal's number when stopped by one."""
    parsed = parse_trained(TrainArguments, "unmask train", arguments)
    from unmask.base.console import PlainConsole
    from unmask.run import train_run

    console = PlainConsole()
    outcome = train_run(parsed.config_values, parsed.run, resume=parsed.resume, console=console)
    run = str(parsed.run)
    if outcome.signal is not None:
        go_on = shlex.join(["unmask", "train", "--run", run, "--resume"])
        console.print(
            f"stopped at step {outcome.progress.step:,} and saved; to go on: {go_on}",
            soft_wrap=True,
        )
        return 128 + outcome.signal
    sample = shlex.join(["unmask", "sample", run])
    console.print(f"done: {run}; for samples: {sample}", soft_wrap=True)
    return 0
