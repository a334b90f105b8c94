"""Many corpora under one model: the field's zero-shot suite, or one's own files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from unmask.base.errors import UserError
from unmask.base.paths import missing_path
from unmask.data.files import find_files
from unmask.evaluate.likelihood import Evaluation, LikelihoodOptions, evaluate_subject
from unmask.evaluate.subject import Subject

ZEROSHOT = (
    "wikitext-2",
    "wikitext-103",
    "ptb",
    "lm1b",
    "lambada",
    "ag-news",
    "pubmed",
    "arxiv",
)
"""The corpora whose zero-shot perplexities MDLM (arXiv 2406.07524) and its successors report, in
the splits they use: validation; test for LM1B, LAMBADA and AG News."""


@dataclass(frozen=True)
class Failure:
    """A corpus that could not be evaluated, and why."""

    corpus: str
    reason: str

    def record(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {"corpus": self.corpus, "error": self.reason}


Row = Evaluation | Failure


def suite_sources(suite: str) -> list[str]:
    """The corpora of a suite: ``zeroshot``, or every text file below a folder, each its own.

    Raises:
        UserError: it is neither, or the folder holds no text.
    """
    if suite == "zeroshot":
        return list(ZEROSHOT)
    if not Path(suite).is_dir():
        raise missing_path("suite", suite, "zeroshot, or a folder of texts")
    return [str(path) for path in find_files(suite).files]


def evaluate_corpora(
    subject: Subject,
    sources: Sequence[str],
    options: LikelihoodOptions,
    console: Console | None = None,
) -> list[Row]:
    """Evaluate a model on each corpus; one that cannot be had does not keep the others back."""
    rows = list[Row]()
    for source in sources:
        try:
            rows.append(evaluate_subject(subject, source, options, console))
        except UserError as error:
            rows.append(Failure(source, str(error)))
    return rows


def corpora_table(rows: Sequence[Row]) -> Table:
    """The rows for a terminal."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("corpus", overflow="fold", min_width=14)
    for name in ("nats/token", "ppl/token", "bits/byte", "ppl/word"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("detok.", no_wrap=True)
    for row in rows:
        name = Path(row.corpus).name
        if isinstance(row, Failure):
            table.add_row(name, "failed", "", "", "", "")
            continue
        word = "" if row.word_ppl is None else f"{row.word_ppl:.4g}"
        table.add_row(
            name,
            f"{row.bound.nelbo:.4f} ± {row.bound.stderr:.4f}",
            f"{row.bound.ppl:,.2f}",
            row.coverage.bits(row.bits_per_byte),
            word,
            "" if row.detokenize == "none" else row.detokenize,
        )
    return table
