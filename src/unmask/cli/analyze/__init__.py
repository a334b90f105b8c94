"""``unmask analyze``: a file for each kind of analysis."""

from collections.abc import Sequence

from rich.console import Console

from unmask.base.errors import UserError, unknown
from unmask.cli.analyze.interventions import interventions_command
from unmask.cli.analyze.learnability import learnability_command
from unmask.cli.analyze.locality import locality_command
from unmask.cli.base import Command, list_commands

SUBCOMMANDS: dict[str, Command] = {
    "locality": Command(locality_command, "how near the information of a corpus or run sits"),
    "learnability": Command(
        learnability_command, "what is left to learn at each mask rate, and which rates teach it"
    ),
    "interventions": Command(
        interventions_command, "whether the recipes' differences survive without locality"
    ),
}


def analyze_command(arguments: Sequence[str], console: Console) -> int:
    """Run ``unmask analyze``: the analysis that is named first."""
    valid = ", ".join(SUBCOMMANDS)
    if not arguments:
        raise UserError(f"unmask analyze needs the name of an analysis; valid: {valid}")
    if arguments[0] in ("-h", "--help"):
        console.print(_help(), highlight=False, markup=False, end="")
        return 0
    if arguments[0] not in SUBCOMMANDS:
        raise unknown("analysis", arguments[0], SUBCOMMANDS)
    return SUBCOMMANDS[arguments[0]].run(arguments[1:], console)


def _help() -> str:
    return f"""\
usage: unmask analyze ANALYSIS [OPTIONS]

Why masked diffusion learns as it does, measured on your own corpus and model.

analyses:
{list_commands(SUBCOMMANDS)}

unmask analyze ANALYSIS --help shows an analysis's options.
"""
