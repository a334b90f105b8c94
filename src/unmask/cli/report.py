"""``unmask report``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field

from unmask.base.section import Section
from unmask.cli.options import parse, says_flags
from unmask.cli.output import print_result


class ReportArguments(Section):
    """Make the report of a comparison again, from its records alone."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")] = Field(
        description="folder of the comparison"
    )


@says_flags(ReportArguments)
def report_command(arguments: Sequence[str]) -> int:
    """Run ``unmask report``."""
    parsed = parse(ReportArguments, "unmask report", arguments)
    from unmask.compare.report import write_report

    print_result(f"report: {write_report(parsed.run)}")
    return 0
