"""``unmask compare``."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from unmask.base.section import nested
from unmask.cli.base import ComparisonOptions, default_recipes, parse_trained, stopped
from unmask.cli.options import says_flags
from unmask.cli.output import print_result
from unmask.compare.options import QualityOptions


class CompareArguments(ComparisonOptions):
    """Train recipes side by side and measure how much sooner each reaches the baseline's bound.

    Runs go to RUN/<recipe>/seed-<s>; finished ones are used again and interrupted ones go on, so
    the command can be stopped and repeated. Every option of unmask train is an option here.
    Example: unmask compare --preset nano --run runs/cmp --recipes standard,bell --seeds 3
    """

    run: Path = Field(
        description="folder of the comparison: plan.json, the runs, comparison.json and report/ "
        "go there"
    )
    recipes: str = Field(
        "standard,bell",
        description="the baseline, then what is compared with it: "
        "NAME[:key=value,...][+train.option=value...]; all: every named recipe, and bell:auto",
    )
    minutes: float | None = Field(
        None,
        ge=0.1,
        le=1e6,
        description="about how long all runs may take on this machine: a step of the baseline is "
        "timed, and train.steps and validation.every follow; repeated, the runs keep their steps",
    )
    evaluate: bool = Field(
        False,
        description="afterwards, measure every kept checkpoint (train.save-every, train.keep): "
        "the likelihood of --quality.corpora, and texts of its own under --quality.judge",
    )
    quality: QualityOptions = nested(QualityOptions)


@says_flags(CompareArguments)
def compare_command(arguments: Sequence[str]) -> int:
    """Run ``unmask compare``: 0 when every run is done, 1 if one diverged or failed."""
    recipes = default_recipes(arguments)
    parsed = parse_trained(CompareArguments, "unmask compare", arguments, recipes=recipes)
    from unmask.base.console import PlainConsole
    from unmask.compare.arms import parse_arms
    from unmask.compare.launch import Interrupted
    from unmask.compare.plan import compare
    from unmask.compare.report.page import write_report
    from unmask.compare.tables import summary_table

    arms = parse_arms(parsed.recipes, parsed.config_values)
    console = PlainConsole()
    try:
        comparison = compare(
            arms,
            parsed.seeds,
            parsed.run,
            jobs=parsed.jobs_at_once,
            console=console,
            quality=parsed.quality if parsed.evaluate else None,
            minutes=parsed.minutes,
        )
    except Interrupted as interrupted:
        return stopped(interrupted, console)
    console.print(summary_table(comparison))
    print_result(f"records: {parsed.run / 'comparison.json'}")
    print_result(f"report:  {write_report(parsed.run)}")
    return 0 if all(run.done for arm in comparison.arms for run in arm.runs) else 1
