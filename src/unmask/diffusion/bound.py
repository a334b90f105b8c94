"""The NELBO from masked cross-entropies, with its standard error, and the curve c(t).

NELBO per token = E_{t~U(0,1)} [ (1/t) (1/L) sum over masked i of CE_i ] = integral of c(t) over
(0, 1), where c(t) is the expected cross-entropy per masked token at mask rate t.

Given its size k, a Bernoulli mask is uniform among those of that size, and integrating t out
leaves k uniform on 1..L with weight L/k (a Beta integral). So the same bound is
E_{k~U{1..L}} [ (1/k) sum over masked i of CE_i ] with exactly k tokens masked, without the noise
of how many a rate t happens to mask (whose variance under the weight 1/t^2 even diverges).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

N_BINS = 10


@dataclass(frozen=True)
class Bound:
    """An estimate of the negative log-likelihood of text, or of an upper bound on it.

    Attributes:
        nelbo: nats per token.
        stderr: its standard error over blocks, in nats per token; nan for a single block.
        tokens: how many tokens the blocks held.
        c_t: mean cross-entropy per masked token (nats) for t in [k/10, (k+1)/10), k = 0..9; None
            for a bin that no draw fell into, and no curve for an exact likelihood.
        block_nats: (n,) the estimate for each block, in nats for the whole block.
        block_tokens: (n,) tokens in each block.
    """

    nelbo: float
    stderr: float
    tokens: int
    c_t: list[float | None] | None
    block_nats: Tensor
    block_tokens: Tensor

    @property
    def ppl(self) -> float:
        """Perplexity per token, exp(NELBO); infinity where that overflows."""
        return math.exp(self.nelbo) if self.nelbo < 700 else math.inf

    def record(self) -> dict[str, float | list[float | None] | None]:
        """The numbers as JSON takes them: None where one is not finite."""

        def finite(x: float) -> float | None:
            return x if math.isfinite(x) else None

        return {
            "nelbo": finite(self.nelbo),
            "stderr": finite(self.stderr),
            "ppl": finite(self.ppl),
            "c_t": self.c_t,
        }

    def block_record(self) -> dict[str, list[float] | list[int]]:
        """The blocks' numbers as JSON takes them, to a hundredth of a millinat."""
        nats = [round(x, 5) for x in self.block_nats.tolist()]
        return {"nats": nats, "tokens": self.block_tokens.tolist()}

    def bits_per_byte(self, tokens: int, n_bytes: int) -> float:
        """Bits per byte of a text whose raw bytes and tokens are counted."""
        return self.nelbo * tokens / n_bytes / math.log(2)


def nelbo_from_draws(
    ce: Tensor,
    weight: Tensor,
    masked: Tensor,
    t: Tensor,
    lengths: Tensor,
    control: Tensor | None = None,
) -> Bound:
    """Estimate the NELBO from m masks of each of n blocks.

    The standard error is over blocks: the m draws of a block, which may be stratified among
    themselves, are averaged first, and the blocks are independent of each other. With blocks of
    unequal length it is that of a ratio (linearised).

    Args:
        ce: (n, m) summed cross-entropy of the masked tokens, nats.
        weight: (n, m) weights with which a block's sums add up to its nats, by
            `unmask.diffusion.estimators`: 1/(m t) for Bernoulli masks of uniform rate t, or for
            exactly k masked tokens, k uniform on 1..L.
        masked: (n, m) how many tokens were masked.
        t: (n, m) mask rates, for the curve c(t).
        lengths: (n,) tokens in each block.
        control: (n, m) nats of expectation 0 that resemble the sums' deviations and are taken off
            them (not in the curve); None: nothing.
    """
    sums = ce.double() if control is None else ce.double() - control
    nats = (sums * weight).sum(dim=1)
    bound = _ratio(nats, lengths)
    bins = (t.double() * N_BINS).long().clamp(max=N_BINS - 1).flatten()
    by_bin = (torch.bincount(bins, x.double().flatten(), N_BINS).tolist() for x in (ce, masked))
    curve = [total / n if n else None for total, n in zip(*by_bin, strict=True)]
    return Bound(*bound, int(lengths.sum()), curve, nats, lengths)


def exact_nll(ce: Tensor, lengths: Tensor) -> Bound:
    """Bound of an autoregressive model, exact for each block.

    Args:
        ce: (n,) summed cross-entropy of all tokens of a block, nats.
        lengths: (n,) tokens in each block.
    """
    nats = ce.double()
    return Bound(*_ratio(nats, lengths), int(lengths.sum()), None, nats, lengths)


def _ratio(nats: Tensor, lengths: Tensor) -> tuple[float, float]:
    """Sum of nats over sum of tokens, and the standard error of that ratio over blocks."""
    n, tokens = len(nats), lengths.double()
    value = nats.sum() / tokens.sum()
    if n < 2:
        return float(value), math.nan
    residual = nats - value * tokens
    variance = (residual**2).sum() / (n - 1) / n
    return float(value), float(variance.sqrt() / tokens.mean())
