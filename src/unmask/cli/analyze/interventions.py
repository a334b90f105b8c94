"""``unmask analyze interventions``."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from unmask.cli.base import (
    ComparisonOptions,
    StudyOptions,
    parse_trained,
    show_study,
    stopped,
)
from unmask.cli.options import says_flags


class InterventionsArguments(StudyOptions, ComparisonOptions):
    """Train the same recipes with and without locality, and measure what becomes of their gaps.

    Two comparisons on the same text: its tokens as they stand, and in one fixed random order of the
    positions. Stop it and repeat the command, it goes on. Every option of unmask train is an
    option here. Example: unmask analyze interventions --preset nano --run runs/why --seeds 3
    """

    run: Path = Field(description="folder of both comparisons")
    recipes: str = Field(
        "standard,bell,ar",
        description="the baseline, which masks, then what is compared with it, an autoregressive "
        "twin among it",
    )
    intervention: str = Field(
        "permute-positions",
        description="transform of the second comparison; --corpus.transform is that of the first",
    )
    out: Path | None = Field(
        None, description="where interventions.json and the page go; None: the --run folder"
    )


@says_flags(InterventionsArguments)
def interventions_command(arguments: Sequence[str]) -> int:
    """Run ``unmask analyze interventions``."""
    parsed = parse_trained(InterventionsArguments, "unmask analyze interventions", arguments)
    from unmask.analyze.interventions.study import interventions
    from unmask.base.console import PlainConsole
    from unmask.compare.launch import Interrupted

    out = parsed.out or parsed.run
    progress = PlainConsole(stderr=True)
    try:
        record = interventions(
            parsed.config_values,
            parsed.run,
            out,
            recipes=parsed.recipes,
            transform=parsed.intervention,
            seeds=parsed.seeds,
            jobs=parsed.jobs_at_once,
            console=progress,
        )
    except Interrupted as interrupted:
        return stopped(interrupted, progress)
    show_study(record, out / "index.html", parsed.as_json)
    return 0
