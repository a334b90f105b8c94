"""``unmask evaluate suite``."""

from collections.abc import Sequence
from typing import Annotated

import tyro
from pydantic import Field

from unmask.base.section import nested
from unmask.cli.evaluate.likelihood import (
    BlockOptions,
    ScoringArguments,
    open_checked,
    print_rows,
    scoring,
)
from unmask.cli.options import parse, says_flags


class SuiteArguments(ScoringArguments):
    """Measure the likelihood of many corpora under a model, a row for each.

    Example: unmask evaluate suite runs/a zeroshot --budget 1000000
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN|HF_FOLDER")] = Field(
        description="folder of a run, or folder or hub name of a Hugging Face masked language model"
    )
    suite: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SUITE")] = Field(
        "zeroshot",
        description="zeroshot (WikiText-2 and -103, PTB, LM1B, LAMBADA, AG News, PubMed, arXiv), "
        "or a folder, each text file of which is a corpus",
    )
    corpus: BlockOptions = nested(BlockOptions)


@says_flags(SuiteArguments)
def suite_command(arguments: Sequence[str]) -> int:
    """Run ``unmask evaluate suite``: 0 when done, 1 if one of the corpora could not be had."""
    asked = parse(SuiteArguments, "unmask evaluate suite", arguments)
    from unmask.base.console import PlainConsole
    from unmask.evaluate.zeroshot import evaluate_corpora, suite_sources

    sources, options = suite_sources(asked.suite), scoring(asked, asked.corpus)
    subject = open_checked(asked.model, asked, options)
    rows = evaluate_corpora(subject, sources, options, PlainConsole(stderr=True))
    return print_rows(rows, asked.as_json)
