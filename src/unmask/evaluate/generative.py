"""Generative perplexity of a run, with entropy, distinct-n and what its validation text scores."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from unmask.base.errors import UserError
from unmask.base.files import write_whole
from unmask.data.load import load_data
from unmask.data.tokenizers import MASK_SHOWN, SEPARATOR_SHOWN
from unmask.evaluate.judge import Judge
from unmask.evaluate.quality import NGRAMS, Mean, TextQuality, text_quality
from unmask.run import Run
from unmask.sample import SamplerOptions, sample
from unmask.train.validation import evenly_spaced

FRONTIER_FILE = "generative/frontier.json"
"""Where in a run's folder `save_frontier` writes what `unmask.evaluate.frontier` draws."""

OnBatch = Callable[[int, int], None]
"""Called with the windows judged and in all, after each batch of the judge."""


@dataclass(frozen=True)
class GenerativeQuality:
    """What a run's samples are worth under a judge.

    Attributes:
        run: the run's folder.
        checkpoint: its step.
        judge: the judge's name.
        settings: ``num``, ``length``, ``steps``, ``seed`` and the other sampling options.
        samples: the numbers of the samples.
        reference: the same of the run's validation text, in stretches of the same length.
        texts: the samples as they were judged.
    """

    run: str
    checkpoint: int
    judge: str
    settings: dict[str, Any]
    samples: TextQuality
    reference: TextQuality
    texts: tuple[str, ...] = field(repr=False)

    def record(self) -> dict[str, Any]:
        """All but the texts, as JSON takes it."""
        return {
            "run": self.run,
            "checkpoint": self.checkpoint,
            "judge": self.judge,
            "settings": self.settings,
            "samples": self.samples.record(),
            "reference": self.reference.record(),
        }

    def table(self) -> Table:
        """The samples' row and the validation text's."""
        rows = [(f"samples, step {self.checkpoint}", self.samples)]
        return quality_table([*rows, ("validation text", self.reference)], self.judge)


def generative_quality(
    run: Run,
    *,
    judge: Judge,
    num: int = 64,
    length: int | None = None,
    steps: int = 64,
    seed: int = 0,
    reference: TextQuality | None = None,
    on_batch: OnBatch = lambda done, total: None,
    **sampling: Any,
) -> GenerativeQuality:
    """Sample texts from a run and judge them, and the run's validation text beside them.

    Entropy and distinct-n are of the texts' tokens in the run's own vocabulary.

    Args:
        run: an opened run.
        judge: what `unmask.evaluate.judge.load_judge` gives.
        num: how many samples; at least 2, since every number comes with its standard error.
        length: tokens of each in the run's vocabulary; None: the run's block size.
        steps: denoising steps.
        seed: of the samples.
        reference: what `reference_quality` gave for the same num and length; None: made here.
        on_batch: the judge's progress.
        **sampling: further options of `unmask.sample.SamplerOptions`.

    Raises:
        UserError: a number out of range, the run's corpus is gone or is no longer the same, a
            sample holds masks, or nothing in a sample can be scored.
    """
    length = run.config.corpus.block_size if length is None else length
    if reference is None:
        reference = reference_quality(run, judge=judge, num=num, length=length, on_batch=on_batch)
    options = SamplerOptions(steps=steps, **sampling)
    drawn = sample(run, num=num, length=length, options=options, seed=seed)
    for number, text in enumerate(drawn, 1):
        if MASK_SHOWN in text:
            raise UserError(
                f"sample {number} holds a mask ({MASK_SHOWN}), which no judge can read: sample "
                "until nothing is masked"
            )
    quality, texts = _judged(run, judge, drawn, on_batch)
    settings = {"num": num, "length": length, "steps": steps, "seed": seed, **sampling}
    settings = {k: v for k, v in settings.items() if isinstance(v, int | float | str | None)}
    step = run.checkpoint.progress.step
    return GenerativeQuality(
        str(run.folder), step, judge.name, settings, quality, reference, tuple(texts)
    )


def reference_quality(
    run: Run,
    *,
    judge: Judge,
    num: int,
    length: int | None = None,
    on_batch: OnBatch = lambda done, total: None,
) -> TextQuality:
    """Judge the run's own validation text: ``num`` stretches of ``length`` tokens.

    They are the beginnings of blocks, evenly spaced over the split, and go through the same
    decoding and encoding as samples do.

    Raises:
        UserError: a number out of range, or the run's corpus is gone or is no longer the same.
    """
    block_size = run.config.corpus.block_size
    length = block_size if length is None else length
    if num < 2:
        raise UserError(f"num must be at least 2 to have a standard error, not {num}")
    if not 2 <= length <= block_size:
        raise UserError(
            f"length must be between 2 and {block_size} (the run's block size), not {length}"
        )
    return _judged(run, judge, _validation_texts(run, num, length), on_batch)[0]


def frontier(
    run: Run,
    temperatures: Sequence[float],
    *,
    judge: Judge,
    num: int = 64,
    length: int | None = None,
    on_batch: OnBatch = lambda done, total: None,
    **sampling: Any,
) -> list[GenerativeQuality]:
    """The quality of a run's samples at each temperature: perplexity falls, and entropy with it.

    A sampler is better where its whole curve lies lower at the same entropy (Zheng et al. 2024,
    arXiv 2409.02908); single points do not compare.

    Args:
        run: an opened run.
        temperatures: at least one, each above 0.
        judge, num, length, on_batch, **sampling: as in `generative_quality`.

    Raises:
        UserError: as `generative_quality`, or a temperature is out of range.
    """
    if not temperatures or not all(t > 0 for t in temperatures):
        listed = ", ".join(map(str, temperatures)) or "none"
        raise UserError(f"temperatures must be numbers above 0, not {listed}")
    reference = reference_quality(run, judge=judge, num=num, length=length, on_batch=on_batch)
    return [
        generative_quality(
            run,
            judge=judge,
            num=num,
            length=length,
            reference=reference,
            on_batch=on_batch,
            temperature=temperature,
            **sampling,
        )
        for temperature in sorted(temperatures)
    ]


def save_frontier(points: Sequence[GenerativeQuality], folder: Path) -> Path:
    """Write a frontier into a run's folder: `unmask.evaluate.frontier` draws it."""
    path = folder / FRONTIER_FILE
    record = {"points": [point.record() for point in points]}
    write_whole(path, json.dumps(record, indent=2, allow_nan=False).encode())
    return path


def quality_table(rows: Sequence[tuple[str, TextQuality]], judge: str) -> Table:
    """A table that shows all the numbers of each named set of texts."""
    caption = (
        "Perplexity per token of the judge, with its 95% interval over texts; entropy of the "
        "tokens within a text; distinct-n: the fraction of a text's n-grams that are different. "
        "± is a standard error over texts. A perplexity below that of real text, at a lower "
        "entropy, means repetition."
    )
    table = Table(title=f"Judge: {judge}", caption=caption, caption_justify="left")
    table.add_column("text")
    numbers = ("perplexity", "95%", "entropy (nats)", *(f"distinct-{n}" for n in NGRAMS), "texts")
    for heading in numbers:
        table.add_column(heading, justify="right")
    for name, quality in rows:
        low, high = quality.interval
        table.add_row(
            name,
            f"{quality.perplexity:.4g}",
            "" if math.isnan(low) else f"{low:.4g}–{high:.4g}",
            _shown(quality.entropy),
            *(_shown(mean) for mean in quality.distinct),
            str(quality.texts),
        )
    return table


def frontier_table(points: Sequence[GenerativeQuality]) -> Table:
    """A row for each temperature, and the validation text's."""
    rows = [(f"temperature {p.settings['temperature']:g}", p.samples) for p in points]
    return quality_table([*rows, ("validation text", points[0].reference)], points[0].judge)


def _shown(mean: Mean) -> str:
    error = "" if math.isnan(mean.stderr) else f" ± {mean.stderr:.3f}"
    return f"{mean.value:.3f}{error}"


def _judged(
    run: Run, judge: Judge, texts: Sequence[str], on_batch: OnBatch
) -> tuple[TextQuality, list[str]]:
    """Texts as `Tokenizer.decode` gives them, judged; and what exactly the judge was given.

    Our sign for the end of a document, which no judge knows, becomes a blank line.
    """
    plain = [text.replace(SEPARATOR_SHOWN, "\n\n") for text in texts]
    return text_quality(judge, plain, run.tokenizer.encode(plain), on_batch), plain


def _validation_texts(run: Run, num: int, length: int) -> list[str]:
    """At most ``num`` stretches of validation text, with at least 2 tokens each."""
    data = load_data(run.config.corpus, run=run.folder)
    x, valid = data.valid.batch(evenly_spaced(len(data.valid), num))
    ends = [length] * len(x) if valid is None else valid.sum(dim=1).clamp(max=length).tolist()
    separator = run.tokenizer.separator_id
    texts = []
    for row, end in zip(x.tolist(), ends, strict=True):
        ids = row[:end]
        if valid is not None and ids[-1] == separator:  # the end of a padded block's document
            ids = ids[:-1]
        if len(ids) > 1:
            texts.append(run.tokenizer.decode(ids))
    return texts
