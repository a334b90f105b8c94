"""Which commands there are, and how each one's errors become an exit status."""

import sys
from collections.abc import Sequence

from rich.console import Console

from unmask.base.errors import UserError, unknown
from unmask.cli.analyze import analyze_command
from unmask.cli.base import Command, list_commands
from unmask.cli.compare import compare_command
from unmask.cli.evaluate import evaluate_command
from unmask.cli.report import report_command
from unmask.cli.sample import sample_command
from unmask.cli.train import train_command
from unmask.train import TRAINING_FAILED, TrainingFailed

COMMANDS = {
    "train": Command(train_command, "train a model in a run folder, or resume one"),
    "compare": Command(compare_command, "train recipes side by side and measure the speed-up"),
    "analyze": Command(analyze_command, "see why a corpus or a run is slow to learn"),
    "report": Command(report_command, "make a comparison's report again from its records"),
    "evaluate": Command(evaluate_command, "measure the likelihood of a text under a model"),
    "sample": Command(sample_command, "print texts drawn from a run"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of ``unmask``.

    Returns:
        0 done, 1 a comparison with runs, or an evaluation with corpora, that are not, 2 bad input,
        3 training failed, 128 + n signal n.
    """
    listed = list(sys.argv[1:] if arguments is None else arguments)
    console = _console()
    if not listed or listed[0] in ("-h", "--help"):
        console.print(_help(), highlight=False, markup=False, end="")
        return 0
    try:
        if listed[0] not in COMMANDS:
            raise unknown("command", listed[0], COMMANDS)
        return COMMANDS[listed[0]].run(listed[1:], console)
    except UserError as error:
        return _tell(f"error: {error}", 2)
    except TrainingFailed as error:
        return _tell(f"training failed: {error}", TRAINING_FAILED)


def _console() -> Console:
    """Standard output; in a pipe or file wide enough for the tables, whatever the terminal is."""
    console = Console()
    return console if console.is_terminal else Console(width=120)


def _tell(message: str, status: int) -> int:
    Console(stderr=True).print(message, style="red", markup=False, highlight=False, soft_wrap=True)
    return status


def _help() -> str:
    return f"""\
usage: unmask COMMAND [OPTIONS]

Train masked diffusion language models fast, see why they are slow, prove the speed-up.

commands:
{list_commands(COMMANDS)}

unmask COMMAND --help shows a command's options.
"""
