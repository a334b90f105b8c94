"""The model card of an exported run."""

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from unmask.base.errors import UserError
from unmask.compare.records import PLAN, load_comparison
from unmask.compare.tables import plain_table
from unmask.data.recorded import RECORD
from unmask.model.network import parameter_count
from unmask.model.pretrained import MaskedLM
from unmask.plot.page import visible
from unmask.recipe.parse import short_spelling
from unmask.run import Run
from unmask.train.metrics import METRICS, read_records


def model_card(run: Run) -> str:
    """A README for a run's exported folder, in Markdown."""
    progress, corpus = run.checkpoint.progress, run.config.corpus
    lines, _ = read_records(run.folder / METRICS)
    here = [r for r in lines if r.get("kind") == "eval" and r["step"] == progress.step]
    measured: dict[str, Any] = here[-1] if here else {}
    causal = run.model.causal
    facts = json.loads((run.folder / RECORD).read_text())
    return _TEMPLATES.get_template("card.md").render(
        name=run.folder.name,
        recipe=short_spelling(run.config.recipe),
        in_full=run.config.recipe,
        init=run.config.init,
        parameters=parameter_count(run.model)[0],
        step=progress.step,
        tokens=progress.tokens_seen,
        nelbo=measured.get("nelbo"),
        stderr=measured.get("stderr"),
        source=corpus.source,
        tokenizer=corpus.tokenizer,
        block_size=corpus.block_size,
        corpus=facts,
        causal=causal,
        auto="AutoModelForCausalLM" if causal else "AutoModelForMaskedLM",
        remote=not isinstance(run.model, MaskedLM),
        table=comparison_table(run.folder),
    )


def comparison_table(folder: Path) -> str:
    """The table of the comparison that a run lies in; empty where it lies in none."""
    above = folder.resolve().parent.parent
    if not (above / PLAN).is_file():
        return ""
    try:
        return plain_table(load_comparison(above))
    except UserError:  # one that cannot be read now is no reason not to export a run
        return ""


_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=False,  # Markdown
    finalize=visible,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
