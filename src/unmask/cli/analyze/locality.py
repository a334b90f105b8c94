"""``unmask analyze locality``."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from unmask.analyze.locality.study import (
    locality_of_corpus,
    locality_of_run,
    reasoning,
    save_locality,
)
from unmask.base.errors import UserError
from unmask.data import CorpusConfig
from unmask.run import open_run
from unmask.train.device import choose_device


@dataclass
class LocalityArguments:
    """Measure how near the information about a token sits, and which bell that asks for.

    Of a corpus: the information between tokens by their distance, and the masks around a target.
    Of a run also what its model can use: cross-entropy within windows, and its c(t).
    """

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="CORPUS|RUN")] = ""
    """A run's folder, or a corpus as --corpus.source names it; without it, --corpus.source."""
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    out: Path | None = None
    """Folder for locality.json, index.html and the plots; without it nothing is written."""
    json: bool = False
    """Print the record as JSON instead of sentences."""
    checkpoint: str = "last"
    """Of a run: last, best (lowest validation NELBO), or a step number."""
    blocks: int = 256
    """Of a run: validation blocks that its model is measured on."""
    targets: int = 2
    """Of a run: places in each block that windows are laid around."""
    device: str = "auto"
    """Of a run: auto, cpu, cuda or mps."""
    seed: int = 0
    """Of the places, masks and random pairings; 0 is what bell:auto uses."""


def locality_command(arguments: Sequence[str], console: Console) -> int:
    """Run ``unmask analyze locality``."""
    parsed = tyro.cli(LocalityArguments, prog="unmask analyze locality", args=arguments)
    for name, value, least in (("blocks", parsed.blocks, 2), ("targets", parsed.targets, 1)):
        if value < least:
            raise UserError(f"--{name} must be at least {least}, not {value}")
    shown = Console(stderr=True) if parsed.json else console
    if parsed.source and (Path(parsed.source) / "config.yaml").is_file():
        if parsed.corpus != CorpusConfig():
            raise UserError("a run has its own corpus; valid: --corpus options without a run")
        device = choose_device(parsed.device)
        run = open_run(Path(parsed.source), parsed.checkpoint)
        run.model.to(device)
        record = locality_of_run(
            run, blocks=parsed.blocks, targets=parsed.targets, seed=parsed.seed, console=shown
        )
    else:
        corpus = parsed.corpus
        if parsed.source:
            corpus = CorpusConfig(**{**corpus.model_dump(), "source": parsed.source})
        record = locality_of_corpus(corpus, seed=parsed.seed, console=shown)
    if parsed.out is not None:
        shown.print(f"report: {save_locality(record, parsed.out)}", soft_wrap=True)
    if parsed.json:
        print(json.dumps(record, allow_nan=False))
        return 0
    for line in reasoning(record):
        console.print(line, highlight=False, soft_wrap=True, style="dim")
    for line in record["conclusion"]:
        console.print(line, highlight=False, soft_wrap=True)
    return 0
