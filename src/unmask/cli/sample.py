"""``unmask sample``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import Progress
from rich.rule import Rule

from unmask.run import open_run
from unmask.sample import sample
from unmask.train.device import choose_device


@dataclass
class SampleArguments:
    """Print texts drawn from a trained run."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    num: int = 4
    """How many texts."""
    length: int = 128
    """Tokens each, at most the run's block size."""
    steps: int = 64
    """Denoising steps; more are slower and better, up to one a token."""
    seed: int = 0
    """Another seed, other texts."""
    checkpoint: str = "last"
    """last, best (lowest validation NELBO), or a step number."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""


def sample_command(arguments: Sequence[str], console: Console) -> int:
    """Run ``unmask sample``."""
    parsed = tyro.cli(SampleArguments, prog="unmask sample", args=arguments)
    device = choose_device(parsed.device)
    run = open_run(parsed.run, parsed.checkpoint)
    run.model.to(device)
    total = parsed.length if run.model.causal else parsed.steps
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("sampling", total=total)
        texts = sample(
            run,
            num=parsed.num,
            length=parsed.length,
            steps=parsed.steps,
            seed=parsed.seed,
            on_step=lambda _: bar.advance(task),
        )
    for number, text in enumerate(texts, 1):
        console.print(Rule(f"sample {number}", style="dim"))
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    return 0
