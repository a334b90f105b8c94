"""``unmask evaluate``."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from unmask.base.errors import UserError
from unmask.cli.evaluate_more import (
    GenerativeArguments,
    TaskArguments,
    do_tasks,
    judge_texts,
)
from unmask.data.detokenize import DETOKENIZERS
from unmask.diffusion.estimators import ESTIMATORS
from unmask.evaluate import Evaluation, LikelihoodOptions, evaluate_subject, open_subject
from unmask.evaluate.likelihood import check_options
from unmask.evaluate.zeroshot import Failure, Row, corpora_table, evaluate_corpora, suite_sources
from unmask.run import open_run
from unmask.train.device import choose_device

_ESTIMATOR_HELP = f"How: {', '.join(ESTIMATORS)}."
_DETOKENIZE_HELP = (
    f"Undo a corpus's tokenisation: {', '.join(DETOKENIZERS)}, none, or auto: by the corpus's name."
)


@dataclass
class CorpusArguments:
    """What is evaluated."""

    source: tyro.conf.UseAppendAction[list[str]] = field(default_factory=list)
    """A text, as unmask train takes it; its validation split if it has one, else all of it. May be
    given several times. Without one, a run's own validation split."""
    block_size: int | None = None
    """Tokens at once; the model's own by default."""
    packing: Literal["wrap", "pad"] | None = None
    """wrap (the rest of a text is a short block) or pad; the run's own by default."""


@dataclass
class EvaluateArguments:
    """Measure the likelihood of a text under a model: NELBO, perplexity, bits per byte.

    Nats per token with their standard error over blocks; exact for a causal run. Or, for a run,
    the quality of its own texts (--generative), or tasks of lm-eval (--tasks).
    Example: unmask evaluate runs/a --corpus.source my-texts/ --budget 1000000
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN|HF_FOLDER")]
    """Folder of a run, or folder or hub name of a Hugging Face masked language model."""
    corpus: CorpusArguments = field(default_factory=CorpusArguments)
    suite: str | None = None
    """zeroshot (WikiText-2 and -103, PTB, LM1B, LAMBADA, AG News, PubMed, arXiv), or a folder, each
    text file of which is a corpus."""
    budget: int | None = None
    """The most tokens that go through the network for a corpus (blocks x draws x length); the
    blocks are spread over it. Without one, all of it."""
    json: bool = False
    """Print one JSON object (a list for several corpora) and nothing else."""
    checkpoint: str = "last"
    """last, best (lowest validation NELBO), or a step number."""
    estimator: Annotated[str, tyro.conf.arg(help=_ESTIMATOR_HELP)] = LikelihoodOptions.estimator
    draws: int = LikelihoodOptions.draws
    """Masks for each block; even for the estimators complementary and controlled."""
    seed: int = 0
    """Another seed, other masks."""
    detokenize: Annotated[str, tyro.conf.arg(help=_DETOKENIZE_HELP)] = "auto"
    batch_size: int = LikelihoodOptions.batch_size
    """Sequences per forward pass; changes the speed alone."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    """Of the forward passes."""
    generative: bool = False
    """Instead of a likelihood: generative perplexity of a run's samples, with their entropy."""
    generate: GenerativeArguments = field(default_factory=GenerativeArguments)
    tasks: str | None = None
    """Instead of a likelihood: tasks of lm-eval, as in arc_easy,hellaswag,piqa."""
    lm_eval: TaskArguments = field(default_factory=TaskArguments)


def evaluate_command(arguments: Sequence[str], console: Console) -> int:
    """Run ``unmask evaluate``: 0 when done, 1 if one of several corpora could not be had."""
    parsed = tyro.cli(EvaluateArguments, prog="unmask evaluate", args=arguments)
    sources = list(parsed.corpus.source)
    if bool(sources) + (parsed.suite is not None) + parsed.generative + bool(parsed.tasks) > 1:
        raise UserError("give one of --corpus.source, --suite, --generative and --tasks")
    if parsed.generative or parsed.tasks is not None:
        return _of_a_run(parsed, console)
    options = LikelihoodOptions(
        budget=parsed.budget,
        estimator=parsed.estimator,
        draws=parsed.draws,
        seed=parsed.seed,
        batch_size=parsed.batch_size,
        precision=parsed.precision,
        detokenize=parsed.detokenize,
        block_size=parsed.corpus.block_size,
        packing="cover" if parsed.corpus.packing == "wrap" else parsed.corpus.packing,
    )
    device = choose_device(parsed.device)
    subject = open_subject(parsed.model, parsed.checkpoint, device)
    check_options(subject, options)
    progress = Console(stderr=True)
    if parsed.suite is None and len(sources) < 2:
        source = sources[0] if sources else None
        evaluation = evaluate_subject(subject, source, options, progress)
        _print_one(evaluation, parsed.json, console)
        return 0
    if parsed.suite is not None:
        sources = suite_sources(parsed.suite)
    rows = evaluate_corpora(subject, sources, options, progress)
    return _print_many(rows, parsed.json, console)


def _of_a_run(parsed: EvaluateArguments, console: Console) -> int:
    run = open_run(Path(parsed.model), parsed.checkpoint)
    run.model.to(choose_device(parsed.device))
    if parsed.generative:
        return judge_texts(run, parsed.generate, parsed.seed, parsed.json, console)
    assert parsed.tasks is not None
    return do_tasks(
        run,
        parsed.tasks,
        parsed.lm_eval,
        parsed.seed,
        parsed.batch_size,
        parsed.json,
        console,
    )


def _print_one(evaluation: Evaluation, as_json: bool, console: Console) -> None:
    if as_json:
        _print(json.dumps(evaluation.record(), allow_nan=False), console)
        return
    bound, subject = evaluation.bound, evaluation.subject
    step = "" if subject.checkpoint is None else f", step {subject.checkpoint:,}"
    draws = "" if evaluation.estimator == "exact" else f", {evaluation.draws} draws each"
    detokenized = (
        "" if evaluation.detokenize == "none" else f", detokenised ({evaluation.detokenize})"
    )
    error = f"± {bound.stderr:.4f}" if len(bound.block_nats) > 1 else "(one block: no ±)"
    lines = {
        "model": f"{subject.name}{step}",
        "corpus": f"{evaluation.corpus}{detokenized}",
        "from": f"{bound.tokens:,} tokens in {len(bound.block_nats):,} blocks of "
        f"{evaluation.block_size}, {evaluation.estimator}{draws}, seed {evaluation.seed}",
        "NELBO": f"{bound.nelbo:.4f} {error} nats/token",
        "ppl": f"{bound.ppl:,.2f} per token",
        "bits": f"{evaluation.coverage.bits(evaluation.bits_per_byte)} per byte",
    }
    if evaluation.word_ppl is not None:
        lines["words"] = f"{evaluation.word_ppl:,.1f} perplexity per word"
    for name, text in lines.items():
        _print(f"{name:>8}  {text}", console)
    if bound.c_t is not None:
        curve = "  ".join("-" if c is None else f"{c:.3f}" for c in bound.c_t)
        _print(f"{'c(t)':>8}  {curve}", console)


def _print_many(rows: list[Row], as_json: bool, console: Console) -> int:
    failures = [row for row in rows if isinstance(row, Failure)]
    if as_json:
        _print(json.dumps([row.record() for row in rows], allow_nan=False), console)
    else:
        console.print(corpora_table(rows))
        for failure in failures:
            _print(f"{failure.corpus}: {failure.reason}", console)
    return 1 if failures else 0


def _print(text: str, console: Console) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
