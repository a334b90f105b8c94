"""The likelihood of a text under a model, with its standard error."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from unmask.base.errors import UserError
from unmask.base.text import visible
from unmask.base.wording import counted
from unmask.data.blocks import Blocks
from unmask.data.coverage import Coverage
from unmask.data.detokenize import choose_detokenizer, detokenized
from unmask.data.documents import Documents, texts_of
from unmask.data.load import pack_own_validation, pack_text, whole_text
from unmask.diffusion.bound import Bound
from unmask.diffusion.estimators import find_estimator
from unmask.evaluate.ordered import find_rule, ordered_likelihood
from unmask.evaluate.subject import Subject, subject_of
from unmask.run import Run
from unmask.train.config import ValidationConfig
from unmask.train.device import autocast
from unmask.train.validation import validate

OWN = "validation split"
"""What a run's own validation text is called."""


@dataclass(frozen=True)
class LikelihoodOptions:
    """How a text is scored.

    Attributes:
        budget: the most tokens that go through the network, blocks x draws x length; the blocks are
            then spread over the text. None: all of the text.
        estimator: a name in `unmask.diffusion.estimators.ESTIMATORS`.
        order: a name in `unmask.evaluate.ordered.RULES`: the exact likelihood in that order instead
            of the bound over all orders, for a forward pass a token; None: the bound.
        draws: masks for each block.
        seed: of the masks.
        batch_size: sequences per forward pass.
        precision: ``fp32``, ``bf16`` or ``auto``.
        detokenize: see `unmask.data.detokenize.choose_detokenizer`; a run's own validation split is
            always read as in training.
        block_size: tokens at once; None: the model's own.
        packing: ``wrap`` or ``pad``; None: the model's own.
    """

    budget: int | None = None
    estimator: str = "controlled"
    order: str | None = None
    draws: int = 4
    seed: int = 0
    batch_size: int = 64
    precision: str = "fp32"
    detokenize: str = "auto"
    block_size: int | None = None
    packing: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """A text's likelihood under a model, and what it is a function of.

    Attributes:
        bits_per_byte: of the text as the model saw it; a lower limit where ``coverage`` is notable.
        coverage: what of the text the tokens do not hold.
        word_ppl: perplexity per word, words being what stands between spaces in the text as
            published; None for a run's own validation split.
        detokenize: the detokeniser that was applied, or ``none``.
        estimator: how it was estimated; ``exact`` (causal models), ``exact, most-certain`` (in an
            order).
    """

    subject: Subject
    corpus: str
    detokenize: str
    estimator: str
    draws: int
    seed: int
    block_size: int
    bound: Bound
    bits_per_byte: float
    word_ppl: float | None
    coverage: Coverage

    def record(self) -> dict[str, Any]:
        """The result as JSON takes it."""
        return {
            **self.bound.record(),
            "bits_per_byte": self.bits_per_byte if math.isfinite(self.bits_per_byte) else None,
            "lost_share": self.coverage.lost,
            "unknown_share": self.coverage.unknown,
            "word_ppl": self.word_ppl,
            "tokens": self.bound.tokens,
            "blocks": len(self.bound.block_nats),
            "model": self.subject.name,
            "checkpoint": self.subject.checkpoint,
            "corpus": self.corpus,
            "detokenize": self.detokenize,
            "estimator": self.estimator,
            "draws": self.draws,
            "seed": self.seed,
            "block_size": self.block_size,
        }


def evaluate_run(
    run: Run, source: str | None = None, budget: int | None = None, **options: Any
) -> Evaluation:
    """Measure the likelihood of a text under an opened run.

    Args:
        run: its model stays on the device where it is.
        source: a corpus, as a configuration's ``corpus.source`` names it; None: the run's own
            validation split.
        budget: the most tokens that go through the network.
        options: other fields of `LikelihoodOptions`.

    Raises:
        UserError: the corpus cannot be read, or an option is wrong.
    """
    return evaluate_subject(subject_of(run), source, LikelihoodOptions(budget=budget, **options))


def evaluate_subject(
    subject: Subject,
    source: str | None,
    options: LikelihoodOptions,
    console: Console | None = None,
) -> Evaluation:
    """Measure the likelihood of a text under a model: the bound, or exactly for a causal one.

    Args:
        subject: the model.
        source: as for `evaluate_run`.
        options: how.
        console: where to show progress; None: nowhere.

    Raises:
        UserError: the corpus cannot be read, or an option is wrong (told before any work).
    """
    if source is None and options.detokenize not in ("auto", "none"):
        raise UserError(
            f"detokenize: {options.detokenize} is for another corpus; a run's own validation "
            "split is read as in training"
        )
    size_asked_for = options.block_size is not None
    options = check_options(subject, options)
    if console is not None and not console.is_terminal:  # where a bar is shown instead
        console.print(f"evaluating {subject.name} on {source or OWN}", soft_wrap=True)
    assert options.block_size is not None and options.packing is not None
    if source is None:
        blocks, documents, rule = _own_blocks(subject, options, console), None, "none"
    else:
        documents = whole_text(source, console)
        rule = choose_detokenizer(options.detokenize, source)
        text = detokenized(documents, rule)
        # All of the text; a run's own is read as in training, without what is left over.
        packing = "cover" if options.packing == "wrap" else options.packing
        attend = "block" if subject.corpus is None else subject.corpus.attend
        how = options.block_size, packing
        blocks = pack_text(text, subject.tokenizer, *how, attend=attend, console=console)
        if size_asked_for and packing == "cover" and blocks.n_tokens < options.block_size:
            raise UserError(
                f"corpus.block_size {options.block_size} is longer than {text.name} "
                f"({counted(blocks.n_tokens, 'token')}); at most {blocks.n_tokens}"
            )
    if subject.corpus is not None:  # a run reads any text in the order it was trained on
        blocks = replace(blocks, transform=subject.corpus.transform)
    passes, n = _passes(subject, options), len(blocks)
    if options.budget is not None:
        n = options.budget // passes // options.block_size
    config = ValidationConfig(
        blocks=max(2, n), draws=options.draws, batch_size=options.batch_size, seed=options.seed
    )
    total = min(config.blocks, len(blocks)) * passes
    measured = (subject.denoiser, blocks, config, subject.tokenizer.mask_id)
    with _bar(console, source or OWN, total) as bar, autocast(subject.device, options.precision):
        if options.order is None:
            bound = validate(*measured, estimator=options.estimator, on_batch=bar)
        else:
            bound = ordered_likelihood(*measured, options.order, on_batch=bar)
    return Evaluation(
        subject=subject,
        corpus=source or OWN,
        detokenize=rule,
        estimator=_how(subject, options),
        draws=1 if _is_exact(subject, options) else options.draws,
        seed=options.seed,
        block_size=options.block_size,
        bound=bound,
        bits_per_byte=bound.bits_per_byte(blocks.n_tokens, blocks.n_bytes),
        word_ppl=None if documents is None else _word_ppl(bound, blocks, documents),
        coverage=blocks.coverage,
    )


def check_options(subject: Subject, options: LikelihoodOptions) -> LikelihoodOptions:
    """The options with the model's own block size and packing filled in.

    Raises:
        UserError: an option is out of range, unknown, or does not go with the others.
    """
    for name, value in (("draws", options.draws), ("batch_size", options.batch_size)):
        if value < 1:
            raise UserError(f"{name} must be at least 1, not {value}")
    size = subject.block_size if options.block_size is None else options.block_size
    largest = subject.largest
    if size < 2 or (largest is not None and size > largest):
        limit = "at least 2" if largest is None else f"between 2 and {largest}"
        raise UserError(f"corpus.block_size must be {limit}, not {size}")
    if options.order is not None:
        find_rule(options.order)
        if subject.denoiser.causal:
            raise UserError("order: a causal model's likelihood is exact as it is, left to right")
    estimator = find_estimator(options.estimator)
    if not _is_exact(subject, options):  # on one token, which tells whether the draws suit it
        estimator(torch.ones(1, dtype=torch.int64), torch.zeros(1, options.draws).double())
    choose_detokenizer(options.detokenize, "")
    options = replace(options, block_size=size, packing=options.packing or subject.packing)
    passes = _passes(subject, options)
    if options.budget is not None and options.budget < 2 * passes * size:
        each = f"{counted(passes, 'draw')} each"
        if options.order is not None:
            each = "a forward pass for each of them"
        raise UserError(
            f"budget: {options.budget} is too small: two blocks of {size} tokens with "
            f"{each}, the least that has a standard error, take {2 * passes * size}"
        )
    return options


def _passes(subject: Subject, options: LikelihoodOptions) -> int:
    """Forward passes over each block, at most; the likelihood of a causal model takes one."""
    if options.order is not None:
        assert options.block_size is not None
        return options.block_size
    return 1 if subject.denoiser.causal else options.draws


def _is_exact(subject: Subject, options: LikelihoodOptions) -> bool:
    """Whether no masks are drawn."""
    return subject.denoiser.causal or options.order is not None


def _how(subject: Subject, options: LikelihoodOptions) -> str:
    if options.order is not None:
        return f"exact, {options.order}"
    return "exact" if subject.denoiser.causal else options.estimator


def _own_blocks(subject: Subject, options: LikelihoodOptions, console: Console | None) -> Blocks:
    """The validation text of a run, packed as in training: what is left over is dropped."""
    assert options.block_size is not None and options.packing is not None
    if subject.corpus is None:
        raise UserError(f"{subject.name} has no corpus of its own: give corpus.source")
    return pack_own_validation(
        Path(subject.name),
        subject.corpus,
        subject.tokenizer,
        options.block_size,
        options.packing,
        console=console,
    )


def _word_ppl(bound: Bound, blocks: Blocks, documents: Documents) -> float | None:
    words = sum(len(text.split()) for text in texts_of(documents))
    nats = bound.nelbo * blocks.n_tokens / words if words else math.inf
    return math.exp(nats) if nats < 700 else None


@contextmanager
def _bar(console: Console | None, title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar of sequences through the network; nothing without a console."""
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=console is None or not console.is_terminal,
        transient=True,
    ) as bar:
        task = bar.add_task(visible(title), total=total)
        yield lambda n: bar.advance(task, n)
