"""What a set of texts is worth: perplexity under a judge, never without entropy and distinct-n.

A perplexity alone misleads: text that repeats itself has a low one (Zheng et al. 2024, arXiv
2409.02908, whose sentence entropy is the unigram entropy here).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from unmask.diffusion.bound import exact_nll
from unmask.evaluate.judge import Judge

NGRAMS = (1, 2, 3)
_NORMAL = 1.96  # the two-sided 95% quantile


@dataclass(frozen=True)
class Mean:
    """A mean over samples, or a ratio of sums over them.

    Attributes:
        value: what it comes to.
        stderr: its standard error over samples; nan for a single one.
    """

    value: float
    stderr: float


@dataclass(frozen=True)
class TextQuality:
    """The numbers of a set of texts. There is no way to have the perplexity alone.

    Attributes:
        nll: negative log-likelihood under the judge, nats per token of the judge: the ratio of the
            sums over all texts; its standard error is that of the ratio (linearised).
        entropy: of the token frequencies within a text, nats; the mean over texts.
        distinct: for n = 1, 2, 3 the fraction of a text's n-grams that are different; the mean
            over texts.
        texts: how many.
        tokens: how many of the judge's were scored.
    """

    nll: Mean
    entropy: Mean
    distinct: tuple[Mean, Mean, Mean]
    texts: int
    tokens: int

    def __post_init__(self) -> None:
        """Refuse a perplexity whose entropy is not known."""
        if not self.entropy.value >= 0:  # nan, too
            raise ValueError(f"a perplexity needs the entropy beside it, not {self.entropy.value}")

    @property
    def perplexity(self) -> float:
        """exp of the nats per token; infinity where that overflows."""
        return _exp(self.nll.value)

    @property
    def interval(self) -> tuple[float, float]:
        """Perplexity at 1.96 standard errors below and above, about 95%; nan for one text."""
        half = _NORMAL * self.nll.stderr
        return _exp(self.nll.value - half), _exp(self.nll.value + half)

    def record(self) -> dict[str, Any]:
        """The numbers as JSON takes them: None where one is not finite."""
        low, high = self.interval
        return {
            "perplexity": _finite(self.perplexity),
            "perplexity_low": _finite(low),
            "perplexity_high": _finite(high),
            "nll": _finite(self.nll.value),
            "nll_stderr": _finite(self.nll.stderr),
            "entropy": self.entropy.value,
            "entropy_stderr": _finite(self.entropy.stderr),
            "distinct": [_finite(mean.value) for mean in self.distinct],
            "distinct_stderr": [_finite(mean.stderr) for mean in self.distinct],
            "texts": self.texts,
            "tokens": self.tokens,
        }


def text_quality(
    judge: Judge,
    texts: Sequence[str],
    tokens: Sequence[ArrayLike] | None = None,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> TextQuality:
    """Judge texts.

    Args:
        judge: a causal language model.
        texts: at least one; at least two for a standard error.
        tokens: ids of each text, (l,) integers, whose frequencies and n-grams are counted; None:
            the judge's own. Both depend on the vocabulary and on the length of a text, so compare
            them only where these are the same.
        on_batch: called with what is done and what there is in all.

    Raises:
        UserError: nothing can be scored in one of the texts.
    """
    nats, scored = judge.score(texts, on_batch)
    bound = exact_nll(nats, scored)
    counted = [np.asarray(row) for row in (judge.encode(texts) if tokens is None else tokens)]
    first, second, third = (_mean([distinct(row, n) for row in counted]) for n in NGRAMS)
    return TextQuality(
        nll=Mean(bound.nelbo, bound.stderr),
        entropy=_mean([unigram_entropy(row) for row in counted]),
        distinct=(first, second, third),
        texts=len(texts),
        tokens=bound.tokens,
    )


def unigram_entropy(tokens: ArrayLike) -> float:
    """Entropy of the frequencies of one text's tokens, in nats; between 0 and ln of its length."""
    _, counts = np.unique(np.asarray(tokens), return_counts=True)
    p = counts / counts.sum()
    return max(0.0, float(-(p * np.log(p)).sum()))


def distinct(tokens: ArrayLike, n: int) -> float:
    """Fraction of one text's n-grams that are different; nan where it has none.

    Li et al. 2016 (arXiv 1510.03055), here within a text, so that it does not fall with the number
    of texts.
    """
    row = np.asarray(tokens)
    if len(row) < n:
        return math.nan
    grams = np.lib.stride_tricks.sliding_window_view(row, n)
    return len(np.unique(grams, axis=0)) / len(grams)


def _mean(values: Sequence[float]) -> Mean:
    """Mean and standard error over the samples that have a value."""
    there = np.array([value for value in values if not math.isnan(value)])
    if not len(there):
        return Mean(math.nan, math.nan)
    error = there.std(ddof=1) / math.sqrt(len(there)) if len(there) > 1 else math.nan
    return Mean(float(there.mean()), float(error))


def _exp(x: float) -> float:
    return math.exp(x) if not x >= 700 else math.inf


def _finite(x: float) -> float | None:
    return x if math.isfinite(x) else None
