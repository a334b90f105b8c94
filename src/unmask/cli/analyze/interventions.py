"""``unmask analyze interventions``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field

from unmask.cli.base import (
    STOPPED,
    TrainedOptions,
    base_config,
    jobs_at_once,
    show_study,
)
from unmask.cli.options import parse, says_flags


class InterventionsArguments(TrainedOptions):
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
    seeds: int = Field(1, ge=1, description="seeds for each recipe; an interval needs at least two")
    jobs: int = Field(
        0, ge=0, description="runs at once, the cores divided between them; 0: one for two cores"
    )
    out: Path | None = Field(
        None, description="where interventions.json and the page go; None: the --run folder"
    )
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        False, description="print the record as JSON instead of the conclusion"
    )


@says_flags(InterventionsArguments)
def interventions_command(arguments: Sequence[str]) -> int:
    """Run ``unmask analyze interventions``."""
    default = InterventionsArguments.model_construct(
        config_values=base_config(arguments), run=tyro.MISSING
    )
    parsed = parse(InterventionsArguments, "unmask analyze interventions", arguments, default)
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
            jobs=jobs_at_once(parsed.jobs),
            console=progress,
        )
    except Interrupted as stopped:
        progress.print(STOPPED)
        return 128 + stopped.number
    show_study(record, out / "index.html", parsed.as_json)
    return 0
