"""``unmask train``."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from unmask.cli.base import TrainedOptions, parse_trained
from unmask.cli.options import says_flags

if TYPE_CHECKING:
    from unmask.base.console import PlainConsole


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
    dry_run: bool = Field(
        False,
        description="say what the run would cost, and stop: no corpus is read, nothing is written",
    )
    vocabulary: int | None = Field(
        None,
        ge=2,
        description="entries of the tokenizer, for a dry run where it is not at hand",
    )
    tokens_per_second: float | None = Field(
        None, gt=0, description="a speed, for the hours that a dry run says"
    )


@says_flags(TrainArguments)
def train_command(arguments: Sequence[str]) -> int:
    """Run ``unmask train``: 0 when done, 128 + the signal's number when stopped by one."""
    parsed = parse_trained(TrainArguments, "unmask train", arguments)
    from unmask.base.console import PlainConsole
    from unmask.run import train_run

    console = PlainConsole()
    if parsed.dry_run:
        _say_cost(parsed, console)
        return 0
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


def _say_cost(parsed: TrainArguments, console: "PlainConsole") -> None:
    from unmask.cost import UTILISATION, cost_of
    from unmask.data.tokenizers import vocabulary_size

    config, gigabyte = parsed.config_values, 2**30
    known = parsed.vocabulary or (0 if config.init else vocabulary_size(config.corpus.tokenizer))
    cost = cost_of(config, known)
    hours = (
        f"{_hours(cost.h100_hours(UTILISATION))} of one H100 at {UTILISATION:.0%} of its bf16 peak"
    )
    if parsed.tokens_per_second is not None:
        speed = parsed.tokens_per_second
        hours += f"; {_hours(cost.hours(speed))} at {speed:,.0f} tokens/s"
    lines = {
        "parameters": f"{cost.parameters:,} ({cost.inner:,} without embedding and head)",
        "tokens": f"{cost.tokens_per_step:,} a step, {cost.tokens:,} in all",
        "FLOPs": f"{cost.flops_per_step:.3e} a step, {cost.flops:.3e} in all",
        "memory": f"{cost.state_bytes / gigabyte:.2f} GiB of weights, gradients and optimiser, and "
        f"about {cost.activation_bytes / gigabyte:.2f} GiB for a micro-batch, on one device",
        "hours": hours,
    }
    for name, text in lines.items():
        console.print(f"{name:>10}  {text}", soft_wrap=True)


def _hours(hours: float) -> str:
    return f"{hours:,.2f}" if hours >= 0.01 else "under 0.01"
