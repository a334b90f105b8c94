"""``unmask report``."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro
from pydantic import Field

from unmask.base.section import Section
from unmask.cli.options import parse, says_flags
from unmask.cli.output import print_result


class ReportArguments(Section):
    """Tell what a comparison found, from the records of its runs alone.

    The arm that is best of many on some validation blocks is partly the luckiest on them. With
    --blocks odd (or even) all numbers are of half the blocks, and the table is sorted by the other
    half, which can choose. Example: unmask report runs/cmp --blocks odd --format table
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")] = Field(
        description="folder of the comparison"
    )
    baseline: str | None = Field(
        None,
        description="recipe that the others are compared with; by default the comparison's own",
    )
    blocks: Literal["all", "even", "odd"] = Field(
        "all", description="validation blocks that bounds and speed-ups are of"
    )
    format: Literal["page", "table", "json"] = Field(
        "page",
        description="page: write DIR/report/ and print its path; table: print the table, of half "
        "the blocks in Markdown; json: print the numbers at full precision",
    )


@says_flags(ReportArguments)
def report_command(arguments: Sequence[str]) -> int:
    """Run ``unmask report``."""
    parsed = parse(ReportArguments, "unmask report", arguments)
    from unmask.base.console import PlainConsole
    from unmask.compare.records import load_comparison
    from unmask.compare.report.page import write_report
    from unmask.compare.tables import halves_table, summary, summary_table

    if parsed.format == "page":
        print_result(f"report: {write_report(parsed.run, parsed.baseline, parsed.blocks)}")
        return 0
    comparison = load_comparison(parsed.run, parsed.baseline, parsed.blocks)
    if parsed.format == "json":
        numbers = {"blocks": parsed.blocks, **summary(comparison)}
        print_result(json.dumps(numbers, indent=2, allow_nan=False))
    elif parsed.blocks == "all":
        PlainConsole().print(summary_table(comparison))
    else:
        print_result(halves_table(comparison))
    return 0
