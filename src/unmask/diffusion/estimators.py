"""Estimators of the NELBO: which masks a block gets, and what each one's cross-entropy weighs.

All have the same expectation, the NELBO of `unmask.diffusion.bound`; they differ in variance. With
S_k the expected summed cross-entropy of a block of L tokens under masks of exactly k tokens, all
equally likely, the NELBO of the whole block is

    N = L E_{k~U{1..L}} [ S_k / k ] = sum over k = 1..L of S_k / k      (see `bound.py`)

and every estimator is a sum over its masks of weight times summed cross-entropy.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unmask.base.errors import UserError, unknown
from unmask.diffusion.masking import exact_count
from unmask.diffusion.noise import GRAIN
from unmask.diffusion.time import stratify

CONTROL = 0.7  # where it measured best on bytes, 0.5 to 1 being alike; any value is unbiased
_TINY = 2.0**-53  # the least rate that a double-precision uniform draw can give


@dataclass(frozen=True)
class Draws:
    """m masks for each of n blocks, still to be drawn.

    Attributes:
        rate: (n, m) float64 mask rates; for exact masks the fraction of tokens that is masked.
        weight: (n, m) float64: the estimate of a block's nats is the sum over its m masks of
            weight times summed cross-entropy.
        size: (n, m) int64 tokens to mask exactly; None: each token with chance ``rate``.
        paired: whether mask 2j + 1 of a block is the complement of its mask 2j.
        control: coefficient of the control variate: from a mask's summed cross-entropy, this times
            the masked tokens' surprisal less its mean over all masks of that size, which is
            rate times the surprisal of the block's tokens. 0: none.
    """

    rate: Tensor
    weight: Tensor
    size: Tensor | None = None
    paired: bool = False
    control: float = 0.0

    def noise(self, draw: int) -> int:
        """Which stream of noise a draw's mask is made from: a pair shares one."""
        return draw // 2 if self.paired else draw

    def mask(self, rows: Tensor, draw: int, u: Tensor, valid: Tensor | None) -> Tensor:
        """The masks of some blocks.

        Args:
            rows: (b,) int64, which blocks.
            draw: which of their masks.
            u: (b, L) uniform noise in multiples of `GRAIN`, of stream ``noise(draw)``.
            valid: (b, L) bool, where tokens may be masked; None: everywhere.

        Returns:
            (b, L) bool.
        """
        if self.size is None:
            # rounded up to a multiple of the grain, as u is one: in float32 the same masks
            rate = (self.rate[rows, draw] / GRAIN).ceil() * GRAIN
            mask = u < rate.to(u.dtype).to(u.device)[:, None]
            return mask if valid is None else mask & valid
        flipped = self.paired and draw % 2 == 1
        size = self.size[rows, draw - 1 if flipped else draw].to(u.device)
        mask = exact_count(size, u, valid)
        if flipped:
            mask = ~mask if valid is None else ~mask & valid
        return mask


Estimator = Callable[[Tensor, Tensor], Draws]
"""(lengths (n,) int64, u (n, m) uniform doubles) -> Draws."""


def independent(lengths: Tensor, u: Tensor) -> Draws:
    """The field's: t uniform, Bernoulli masks, weight 1/t, every draw on its own."""
    t = (1 - u).clamp(min=_TINY)
    return Draws(t, 1 / (t * u.shape[1]))


def stratified(lengths: Tensor, u: Tensor) -> Draws:
    """As `independent`, but one t in each of m equal parts of (0, 1)."""
    return independent(lengths, _strata(u))


def fixed_count(lengths: Tensor, u: Tensor) -> Draws:
    """Exactly k tokens masked, k stratified over 1..L, weight L / (k m)."""
    n_tokens = lengths[:, None]
    k = (_strata(u) * n_tokens).long().clamp(max=n_tokens - 1) + 1
    return Draws(k / n_tokens, n_tokens / (k.double() * u.shape[1]), k)


def complementary(lengths: Tensor, u: Tensor) -> Draws:
    """Pairs of a mask and its complement: every token is predicted once by each pair.

    k is uniform over 1..L. Sizes 1 to L - 1 come up as k and, just as often, as L - k, so both
    masks of a pair get half the weight of `fixed_count`; size L comes up as k alone and keeps all
    of it, while its empty complement weighs nothing. The m/2 pairs are stratified in the order
    L, 1, L - 1, 2, L - 2, ..., in which neighbours are nearly the same pair: strata of k itself
    would hold each pair twice.

    Raises:
        UserError: m is odd.
    """
    if u.shape[1] % 2:
        raise UserError(f"complementary masks come in pairs: draws must be even, not {u.shape[1]}")
    return _pairs(lengths, _strata(u[:, ::2]))


def controlled(lengths: Tensor, u: Tensor) -> Draws:
    """As `complementary`, with each token's surprisal in the text as a control variate."""
    return replace(complementary(lengths, u), control=CONTROL)


def _pairs(lengths: Tensor, v: Tensor) -> Draws:
    """Complementary masks from the places of their sizes, v (n, p) in (0, 1)."""
    total = lengths[:, None]
    place = (v * total).long().clamp(max=total - 1)
    k = torch.where(place % 2 == 1, (place + 1) // 2, total - place // 2)
    other = total - k
    alone = other == 0
    per_pair = total.double() / v.shape[1]
    first = per_pair * torch.where(alone, 1.0, 0.5) / k
    second = per_pair * torch.where(alone, 0.0, 0.5) / other.clamp(min=1)
    return Draws(
        _interleave(k / total.double(), other / total.double()),
        _interleave(first, second),
        _interleave(k, other),
        paired=True,
    )


ESTIMATORS: dict[str, Estimator] = {
    "independent": independent,
    "stratified": stratified,
    "fixed-count": fixed_count,
    "complementary": complementary,
    "controlled": controlled,
}
"""The estimators by name."""


def find_estimator(name: str) -> Estimator:
    """The estimator of that name.

    Raises:
        UserError: there is none; the valid names are listed.
    """
    if name not in ESTIMATORS:
        raise unknown("estimator", name, ESTIMATORS)
    return ESTIMATORS[name]


def _strata(u: Tensor) -> Tensor:
    """One value in each of m equal parts of (0, 1), (n, m)."""
    m = u.shape[1]
    return stratify(torch.arange(m), u, m)


def _interleave(a: Tensor, b: Tensor) -> Tensor:
    """(n, p) and (n, p) -> (n, 2p), alternating."""
    return torch.stack((a, b), dim=2).flatten(1)
