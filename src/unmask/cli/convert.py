"""``unmask convert``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field

from unmask.base.section import Section
from unmask.cli.base import run_folder
from unmask.cli.options import parse, says_flags
from unmask.cli.output import print_result


class ConvertArguments(Section):
    """Write a run as a folder that transformers loads, with its code and a model card.

    Example: unmask convert runs/a --to models/a
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")] = Field(
        description="folder of the run"
    )
    to: Path = Field(description="new folder for the model")
    checkpoint: str = Field(
        "last", description="last, best (lowest validation NELBO), or a step number"
    )


@says_flags(ConvertArguments)
def convert_command(arguments: Sequence[str]) -> int:
    """Run ``unmask convert``: 0 when the folder is written."""
    asked = parse(ConvertArguments, "unmask convert", arguments)
    run_folder(asked.run)
    from unmask.convert.export import export_run

    print_result(f"model: {export_run(asked.run, asked.to, asked.checkpoint)}")
    return 0
