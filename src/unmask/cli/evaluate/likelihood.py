"""``unmask evaluate``: the likelihood of a text."""

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from pydantic import Field

from unmask.base.section import Section, nested
from unmask.base.wording import counted
from unmask.cli.base import ModelOptions, print_json
from unmask.cli.options import parse, says_flags
from unmask.cli.output import print_result
from unmask.data.detokenize import DETOKENIZERS

if TYPE_CHECKING:
    from unmask.evaluate.likelihood import Evaluation, LikelihoodOptions
    from unmask.evaluate.subject import Subject
    from unmask.evaluate.zeroshot import Row


class BlockOptions(Section):
    """How a text becomes blocks."""

    block_size: int | None = Field(
        None, ge=2, description="tokens at once; the model's own by default"
    )
    packing: Literal["wrap", "pad"] | None = Field(
        None,
        description="wrap (the rest of a text is a short block) or pad; the run's own by default",
    )


class ScoringArguments(ModelOptions):
    """How a text is scored, whatever the text."""

    budget: int | None = Field(
        None,
        ge=1,
        description="most tokens that go through the network for a corpus (blocks x draws x "
        "length); the blocks are spread over it; without one, all of it",
    )
    estimator: str = Field(
        "controlled",
        description="how: controlled, complementary, fixed-count, stratified or independent",
    )
    order: str | None = Field(
        None,
        description="left-to-right or most-certain: the exact likelihood of texts that are written "
        "one token at a time in this order, for a forward pass a token; by default the bound",
    )
    draws: int = Field(
        4,
        ge=1,
        description="masks for each block; even for the estimators complementary and controlled",
    )
    detokenize: str = Field(
        "auto",
        description=f"undo a corpus's tokenisation: {', '.join(DETOKENIZERS)}, none, or auto: by "
        "the corpus's name",
    )
    batch_size: int = Field(
        64, ge=1, description="sequences per forward pass; changes the speed alone"
    )
    precision: Literal["fp32", "bf16", "auto"] = Field("fp32", description="of the forward passes")


class SourceOptions(BlockOptions):
    """What is evaluated."""

    source: tyro.conf.UseAppendAction[list[str]] = Field(
        default_factory=list,
        description="a text, as unmask train takes it; its validation split if it has one, else "
        "all of it; may be given several times; without one, a run's own validation split",
    )


class EvaluateArguments(ScoringArguments):
    """Measure the likelihood of a text under a model: NELBO, perplexity, bits per byte.

    Nats per token with their standard error over blocks; exact for a causal run.
    Example: unmask evaluate runs/a --corpus.source my-texts/ --budget 1000000

    Other tasks, each with a --help: unmask evaluate suite, unmask evaluate generative and
    unmask evaluate tasks. A run's folder of such a name is given as ./NAME.
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN|HF_FOLDER")] = Field(
        description="folder of a run, or folder or hub name of a Hugging Face masked language model"
    )
    corpus: SourceOptions = nested(SourceOptions)


@says_flags(EvaluateArguments)
def likelihood_command(arguments: Sequence[str]) -> int:
    """Run ``unmask evaluate RUN``: 0 when done, 1 if one of several corpora could not be had."""
    asked = parse(EvaluateArguments, "unmask evaluate", arguments)
    from unmask.base.console import PlainConsole
    from unmask.evaluate.likelihood import evaluate_subject
    from unmask.evaluate.zeroshot import evaluate_corpora

    options = scoring(asked, asked.corpus)
    subject = open_checked(asked.model, asked, options)
    progress, sources = PlainConsole(stderr=True), asked.corpus.source
    if len(sources) > 1:
        return print_rows(evaluate_corpora(subject, sources, options, progress), asked.as_json)
    evaluation = evaluate_subject(subject, next(iter(sources), None), options, progress)
    if asked.as_json:
        print_json(evaluation.record())
    else:
        print_result(_in_lines(evaluation))
    return 0


def scoring(asked: ScoringArguments, blocks: BlockOptions) -> "LikelihoodOptions":
    """The options of the library."""
    from unmask.evaluate.likelihood import LikelihoodOptions

    given = asked.model_dump() | blocks.model_dump()
    return LikelihoodOptions(**{f.name: given[f.name] for f in fields(LikelihoodOptions)})


def open_checked(name: str, asked: ScoringArguments, options: "LikelihoodOptions") -> "Subject":
    """The model, once everything else about the request is known to be right."""
    from unmask.evaluate.likelihood import check_options
    from unmask.evaluate.subject import open_subject
    from unmask.train.device import choose_device

    subject = open_subject(name, asked.checkpoint, choose_device(asked.device))
    check_options(subject, options)
    return subject


def print_rows(rows: "list[Row]", as_json: bool) -> int:
    """Print the evaluations of many corpora; 1 if one of them could not be had."""
    from unmask.base.console import PlainConsole
    from unmask.evaluate.zeroshot import Failure, corpora_table

    failures = [row for row in rows if isinstance(row, Failure)]
    if as_json:
        print_json([row.record() for row in rows])
    else:
        PlainConsole().print(corpora_table(rows))
        for failure in failures:
            print_result(f"{failure.corpus}: {failure.reason}")
    return 1 if failures else 0


def _in_lines(evaluation: "Evaluation") -> str:
    """What a person reads."""
    bound, subject = evaluation.bound, evaluation.subject
    step = "" if subject.checkpoint is None else f", step {subject.checkpoint:,}"
    exact = evaluation.estimator.startswith("exact")
    draws = "" if exact else f", {counted(evaluation.draws, 'draw')} each"
    detokenized = (
        "" if evaluation.detokenize == "none" else f", detokenised ({evaluation.detokenize})"
    )
    error = f"± {bound.stderr:.4f}" if len(bound.block_nats) > 1 else "(one block: no ±)"
    lines = {
        "model": f"{subject.name}{step}",
        "corpus": f"{evaluation.corpus}{detokenized}",
        "from": f"{counted(bound.tokens, 'token')} in {counted(len(bound.block_nats), 'block')} "
        f"of {evaluation.block_size}, {evaluation.estimator}{draws}, seed {evaluation.seed}",
        "NLL" if exact else "NELBO": f"{bound.nelbo:.4f} {error} nats/token",
        "ppl": f"{bound.ppl:,.2f} per token",
        "bits": f"{evaluation.coverage.bits(evaluation.bits_per_byte)} per byte",
    }
    if evaluation.word_ppl is not None:
        lines["words"] = f"{evaluation.word_ppl:,.1f} perplexity per word"
    if bound.c_t is not None:
        lines["c(t)"] = "  ".join("-" if c is None else f"{c:.3f}" for c in bound.c_t)
    return "\n".join(f"{name:>8}  {text}" for name, text in lines.items())
