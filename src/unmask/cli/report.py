"""``unmask report``."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from unmask.compare import halves_table, load_comparison, summary, summary_table
from unmask.compare.report import write_report


@dataclass
class ReportArguments:
    """Tell what a comparison found, from the records of its runs alone.

    The arm that is best of many on some validation blocks is partly the luckiest on them. With
    --blocks odd (or even) all numbers are of half the blocks, and the table is sorted by the other
    half, which can choose. Example: unmask report runs/cmp --blocks odd --format table
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """Folder of the comparison."""
    baseline: str | None = None
    """Recipe that the others are compared with; None: the comparison's own."""
    blocks: Literal["all", "even", "odd"] = "all"
    """Validation blocks that bounds and speed-ups are of."""
    format: Literal["page", "table", "json"] = "page"
    """page: write DIR/report/ and print its path; table: print the table, of half the blocks in
    Markdown; json: print the numbers at full precision."""


def report_command(arguments: Sequence[str], console: Console) -> int:
    """Run ``unmask report``."""
    parsed = tyro.cli(ReportArguments, prog="unmask report", args=arguments)
    if parsed.format == "page":
        page = write_report(parsed.run, parsed.baseline, parsed.blocks)
        console.print(f"report: {page}", soft_wrap=True)
        return 0
    comparison = load_comparison(parsed.run, parsed.baseline, parsed.blocks)
    if parsed.format == "json":
        numbers = {"blocks": parsed.blocks, **summary(comparison)}
        print(json.dumps(numbers, indent=2, allow_nan=False))
    elif parsed.blocks == "all":
        console.print(summary_table(comparison))
    else:
        print(halves_table(comparison))
    return 0
