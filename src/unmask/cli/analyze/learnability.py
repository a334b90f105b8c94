"""``unmask analyze learnability``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field

from unmask.analyze.learnability.options import Budget
from unmask.base.section import nested
from unmask.cli.base import StudyOptions, show_study
from unmask.cli.options import parse, says_flags


class LearnabilityArguments(StudyOptions):
    """Measure what is left to learn at each mask rate, and which rates teach which.

    From the records and checkpoints of a comparison: c(t) and its reducible part, the gradient's
    signal and noise, and the transfer matrix. The records and a page go to --out.
    Example: unmask analyze learnability runs/cmp
    """

    comparison: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="COMPARISON")] = Field(
        description="folder of an unmask compare"
    )
    budget: Annotated[Budget, tyro.conf.arg(name="")] = nested(Budget)
    recipes: tuple[str, ...] = Field(
        (),
        description="recipes whose checkpoints are looked at; without any, all that mask tokens",
    )
    learning_rate: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="of the transfer's steps; None: that of the checkpoint's last step",
    )
    out: Path | None = Field(
        None, description="folder to write into; None: COMPARISON/learnability"
    )
    device: str = Field("auto", description="auto, cpu, cuda or mps")


@says_flags(LearnabilityArguments)
def learnability_command(arguments: Sequence[str]) -> int:
    """Run ``unmask analyze learnability``."""
    parsed = parse(LearnabilityArguments, "unmask analyze learnability", arguments)
    from unmask.analyze.learnability.study import learnability
    from unmask.base.console import PlainConsole

    out = parsed.out or parsed.comparison / "learnability"
    record = learnability(
        parsed.comparison,
        out,
        parsed.budget,
        recipes=parsed.recipes,
        rate=parsed.learning_rate,
        device=parsed.device,
        console=PlainConsole(stderr=True),
    )
    show_study(record, out / "index.html", parsed.as_json)
    return 0
