"""``unmask analyze locality``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field

from unmask.base.errors import UserError
from unmask.base.section import nested
from unmask.cli.base import ModelOptions, open_on_device, print_json
from unmask.cli.options import parse, says_flags
from unmask.cli.output import print_result
from unmask.data.config import CorpusConfig


class LocalityArguments(ModelOptions):
    """Measure how near the information about a token sits, and which bell that asks for.

    Of a corpus: the information between tokens by their distance, and the masks around a target.
    Of a run also what its model can use: cross-entropy within windows, and its c(t).
    """

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="CORPUS|RUN")] = Field(
        "",
        description="a run's folder, or a corpus as --corpus.source names it; without it, "
        "--corpus.source",
    )
    corpus: CorpusConfig = nested(CorpusConfig)
    out: Path | None = Field(
        None,
        description="folder for locality.json, index.html and the plots; without it nothing is "
        "written",
    )
    blocks: int = Field(
        256, ge=2, description="of a run: validation blocks that its model is measured on"
    )
    targets: int = Field(
        2, ge=1, description="of a run: places in each block that windows are laid around"
    )


@says_flags(LocalityArguments)
def locality_command(arguments: Sequence[str]) -> int:
    """Run ``unmask analyze locality``."""
    parsed = parse(LocalityArguments, "unmask analyze locality", arguments)
    from rich.text import Text

    from unmask.analyze.locality.study import (
        locality_of_corpus,
        locality_of_run,
        reasoning,
        save_locality,
    )
    from unmask.base.console import PlainConsole

    console = PlainConsole(stderr=parsed.as_json)
    if parsed.source and (Path(parsed.source) / "config.yaml").is_file():
        if parsed.corpus != CorpusConfig():
            raise UserError("a run has its own corpus; valid: --corpus options without a run")
        run = open_on_device(Path(parsed.source), parsed)
        record = locality_of_run(
            run, blocks=parsed.blocks, targets=parsed.targets, seed=parsed.seed, console=console
        )
    else:
        corpus = parsed.corpus
        if parsed.source:
            corpus = CorpusConfig(**{**corpus.model_dump(), "source": parsed.source})
        record = locality_of_corpus(corpus, seed=parsed.seed, console=console)
    if parsed.out is not None:
        console.print(f"report: {save_locality(record, parsed.out)}", soft_wrap=True)
    if parsed.as_json:
        print_json(record)
        return 0
    for line in reasoning(record):
        console.print(Text(line, "dim"), soft_wrap=True)
    for line in record["conclusion"]:
        print_result(line)
    return 0
