"""Mask strategies: how a mask rate becomes the model's input and the positions it predicts."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Corrupted:
    """A batch as the model sees it.

    Attributes:
        inputs: (B, L) int64 tokens, some of them hidden.
        predicted: (B, L) bool, the positions whose clean token the model is asked for.
    """

    inputs: Tensor
    predicted: Tensor


Corrupt = Callable[[Tensor, Tensor, Tensor, Tensor | None, int], Corrupted]
"""(x, t, u, valid, mask_id) -> Corrupted, with x (B, L) clean tokens, t (B,) mask rates, u (B, L)
uniform noise in [0, 1), valid (B, L) bool or None where there is no padding."""


Most = Callable[[Tensor, int], Tensor]
"""(t, L) -> (B,) int64, the most positions predicted in sequences of at most L tokens at rates t;
non-decreasing in t."""


Confidence = Callable[[Corrupted], Tensor]
"""The model's log-probability of its best guess at each predicted position, (B, L); -inf at others.
No gradient."""

Refine = Callable[[Corrupted, Tensor, Tensor, Tensor, Confidence, int], Corrupted]
"""(corrupted, x, t, u, confidence, mask_id) -> Corrupted: masks that depend on the model."""


@dataclass(frozen=True)
class Masking:
    """A mask strategy.

    Attributes:
        corrupt: the rule.
        causal: whether the model must not look ahead (it predicts from what lies to the left).
        most: how many positions it predicts at most; None where only L bounds it.
        refine: what becomes of the masks after a look at them with the model; None: nothing.
    """

    corrupt: Corrupt
    causal: bool = False
    most: Most | None = None
    refine: Refine | None = None


def bernoulli(x: Tensor, t: Tensor, u: Tensor, valid: Tensor | None, mask_id: int) -> Corrupted:
    """Mask every token on its own with probability t; padding is never masked."""
    mask = u < t[:, None]
    if valid is not None:
        mask &= valid
    return Corrupted(x.masked_fill(mask, mask_id), mask)


def next_token(x: Tensor, t: Tensor, u: Tensor, valid: Tensor | None, mask_id: int) -> Corrupted:
    """Predict every token from those before it: the autoregressive twin.

    The inputs are shifted right by one; the mask token, otherwise unused there, is the start
    symbol, so that the first token is predicted too and both bounds cover the same L tokens.
    """
    start = torch.full_like(x[:, :1], mask_id)
    predicted = torch.ones_like(x, dtype=torch.bool) if valid is None else valid
    return Corrupted(torch.cat([start, x[:, :-1]], dim=1), predicted)


def shifted_next_token(
    x: Tensor, t: Tensor, u: Tensor, valid: Tensor | None, mask_id: int
) -> Corrupted:
    """As `next_token`, for a network that puts the start symbol before its inputs by itself."""
    predicted = torch.ones_like(x, dtype=torch.bool) if valid is None else valid
    return Corrupted(x, predicted)


def correlated(neighbours: float) -> Corrupt:
    """Mask every token with probability t, those of neighbours not independently.

    Each position's noise is the normal distribution function of a stationary first-order
    autoregressive sequence, so every single one is uniform, as Bernoulli masks' is, and every mask
    is possible.

    Args:
        neighbours: correlation of that sequence between neighbours, in (-1, 1): positive masks
            come in longer runs, negative ones leave a masked token a visible neighbour more often.
    """

    def corrupt(x: Tensor, t: Tensor, u: Tensor, valid: Tensor | None, mask_id: int) -> Corrupted:
        # z_i = r z_{i-1} + sqrt(1 - r^2) e_i, all at once.
        distance = torch.arange(x.shape[1])
        gap = distance[:, None] - distance[None, :]
        weight = neighbours ** gap.clamp(min=0).double() * (gap >= 0)
        weight[:, 1:] *= (1 - neighbours**2) ** 0.5
        noise = torch.special.ndtri(u.cpu().double().clamp(min=2.0**-25)) @ weight.T
        uniform = torch.special.ndtr(noise)
        rounded = uniform.float()  # down: below a float32 rate are the same positions as before
        rounded = torch.where(rounded > uniform, rounded.nextafter(rounded - 1), rounded)
        return bernoulli(x, t, rounded.to(x.device), valid, mask_id)

    return corrupt


def half_way_to_all(
    x: Tensor, t: Tensor, u: Tensor, valid: Tensor | None, mask_id: int
) -> Corrupted:
    """Mask every token with probability (1 + t)/2: what `reveal_confident` starts from."""
    return bernoulli(x, (1 + t) / 2, u, valid, mask_id)


def reveal_confident(
    corrupted: Corrupted, x: Tensor, t: Tensor, u: Tensor, confidence: Confidence, mask_id: int
) -> Corrupted:
    """Show the tokens that the model is surest of, until about a share t of all is masked.

    Masks as they come up when a model generates by confidence: one step of its own unmasking, from
    (1 + t)/2 to t, at the price of a forward pass without gradient. PUMA (arXiv 2602.10314) lets
    training masks follow the model's unmasking order; starting half-way, and Gumbel noise on the
    log-confidences, which keeps every mask possible, are ours.
    """
    masked = corrupted.predicted
    rate = t[:, None]
    # u < (1 + t)/2 where masked, or is above: rescaled it is uniform, and independent of the mask.
    v = torch.where(u < (1 + rate) / 2, 2 * u / (1 + rate), (2 * u - 1 - rate) / (1 - rate))
    v = v.clamp(2.0**-24, 1 - 2.0**-24)
    sureness = confidence(corrupted) - (-v.log()).log()
    sureness = sureness.masked_fill(~masked, -torch.inf)
    rounding = (v[:, 0] * 2**10) % 1  # low bits, which the noise of the first position hardly has
    shown = (masked.sum(dim=1) * (1 - t) / (1 + t) + rounding).floor()
    ranks = sureness.argsort(dim=1, descending=True).argsort(dim=1)
    mask = masked & (ranks >= shown[:, None])
    return Corrupted(x.masked_fill(mask, mask_id), mask)


def exact_count(k: Tensor, u: Tensor, valid: Tensor | None) -> Tensor:
    """Masks of exactly k tokens each, all equally likely; padding is never among them.

    Args:
        k: (B,) int64, at most the number of valid tokens.
        u: (B, L) uniform noise: the k valid positions where it is least are masked.
        valid: (B, L) bool or None.

    Returns:
        (B, L) bool.
    """
    if valid is not None:
        u = u.masked_fill(~valid, 2.0)
    ranks = u.argsort(dim=1).argsort(dim=1)
    return ranks < k[:, None]


def fixed_count(x: Tensor, t: Tensor, u: Tensor, valid: Tensor | None, mask_id: int) -> Corrupted:
    """Mask exactly ceil(t n) of a sequence's n valid tokens, any of them alike.

    The number of masked tokens is then known from t alone, and the masked fraction is less than
    1/n above t.
    """
    n = x.shape[1] if valid is None else valid.sum(dim=1)
    mask = exact_count(rounded_up(t, n), u, valid)
    return Corrupted(x.masked_fill(mask, mask_id), mask)


def rounded_up(t: Tensor, n: int | Tensor) -> Tensor:
    """ceil(t n), (B,) int64: what `fixed_count` masks of n tokens, so the most it does of fewer."""
    return (t * n).ceil().long()


def every(t: Tensor, n: int) -> Tensor:
    """n whatever the rate, (B,) int64."""
    return torch.full(t.shape, n)


MASKINGS: dict[str, Masking] = {
    "bernoulli": Masking(bernoulli),
    "fixed-count": Masking(fixed_count, most=rounded_up),
    "spans": Masking(correlated(0.7)),
    "scattered": Masking(correlated(-0.7)),
    "alternating": Masking(correlated(-0.9)),
    "own-order": Masking(half_way_to_all, refine=reveal_confident),
    "next-token": Masking(next_token, causal=True, most=every),
    "shifted-next-token": Masking(shifted_next_token, causal=True, most=every),
}
"""The mask strategies by the name a recipe calls them."""
