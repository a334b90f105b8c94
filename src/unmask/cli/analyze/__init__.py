"""``unmask analyze``: a file for each analysis."""

from collections.abc import Sequence

from rich.console import Console

from unmask.cli.analyze.locality import locality_command
from unmask.cli.base import Command, list_commands
from unmask.errors import unknown

SUBCOMMANDS: dict[str, Command] = {
    "locality": Command(locality_command, "how near the information of a corpus or run sits"),
}


def analyze_command(arguments: Sequence[str], console: Console) -> int:
    """Run ``unmask analyze``."""
    if not arguments or arguments[0] in ("-h", "--help"):
        console.print(
            f"usage: unmask analyze ANALYSIS [OPTIONS]\n\nanalyses:\n{list_commands(SUBCOMMANDS)}",
            highlight=False,
            markup=False,
        )
        return 0
    if arguments[0] not in SUBCOMMANDS:
        raise unknown("analysis", arguments[0], SUBCOMMANDS)
    return SUBCOMMANDS[arguments[0]].run(arguments[1:], console)
