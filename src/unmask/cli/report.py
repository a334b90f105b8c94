"""``unmask report``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from unmask.compare.report import write_report


@dataclass
class ReportArguments:
    """Make the report of a comparison again, from its records alone."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """Folder of the comparison."""


def report_command(arguments: Sequence[str], console: Console) -> int:
    """Run ``unmask report``."""
    parsed = tyro.cli(ReportArguments, prog="unmask report", args=arguments)
    console.print(f"report: {write_report(parsed.run)}", soft_wrap=True)
    return 0
