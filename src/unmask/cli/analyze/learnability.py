"""``unmask analyze learnability``."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from unmask.analyze.learnability.study import Budget, learnability
from unmask.cli.base import show_study


@dataclass
class LearnabilityArguments:
    """Measure what is left to learn at each mask rate, and which rates teach which.

    From the records and checkpoints of a comparison: c(t) and its reducible part, the gradient's
    signal and noise, and the transfer matrix. The records and a page go to --out.
    Example: unmask analyze learnability runs/cmp
    """

    comparison: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="COMPARISON")]
    """Folder of an unmask compare."""
    budget: Annotated[Budget, tyro.conf.arg(name="")] = field(default_factory=Budget)
    recipes: tuple[str, ...] = ()
    """Recipes whose checkpoints are looked at; without any, all that mask tokens."""
    learning_rate: float | None = None
    """Of the transfer's steps; None: that of the checkpoint's last step."""
    out: Path | None = None
    """Where to write; None: COMPARISON/learnability."""
    json: bool = False
    """Print the record as JSON instead of the conclusion."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""


def learnability_command(arguments: Sequence[str], console: Console) -> int:
    """Run ``unmask analyze learnability``."""
    parsed = tyro.cli(LearnabilityArguments, prog="unmask analyze learnability", args=arguments)
    out = parsed.out or parsed.comparison / "learnability"
    record = learnability(
        parsed.comparison,
        out,
        parsed.budget,
        recipes=parsed.recipes,
        rate=parsed.learning_rate,
        device=parsed.device,
        console=Console(stderr=True),
    )
    show_study(record, out / "index.html", parsed.json, console)
    return 0
