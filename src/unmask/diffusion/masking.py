"""Mask strategies: how a mask rate becomes the positions that are hidden and predicted."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unmask.base.errors import UserError


class Masking(ABC):
    """A mask strategy. A subclass is a frozen dataclass whose fields are its parameters.

    Attributes:
        float64: whether masks are computed in float64, so on the CPU, for every device has the
            same and not every device has float64.
        refines: whether `refine` looks at the masks with the model.
    """

    float64: ClassVar[bool] = False
    refines: ClassVar[bool] = False

    @abstractmethod
    def mask(self, t: Tensor, u: Tensor, valid: Tensor | None) -> Tensor:
        """The masked positions, (B, L) bool.

        Args:
            t: (B,) mask rates.
            u: (B, L) uniform noise in [0, 1).
            valid: (B, L) bool, False where nothing may be masked (padding, prompts); None: masks
                may be anywhere.
        """

    def most(self, t: Tensor, length: int) -> Tensor | None:
        """The most positions masked in sequences of at most ``length`` tokens at rates t (B,).

        Returns:
            (B,) int64, non-decreasing in t; None where only the length bounds it.
        """
        return None

    def most_visible(self, t: Tensor, length: int) -> Tensor | None:
        """The most positions left visible in such sequences, as `most`; non-increasing in t."""
        return None

    def refine(self, mask: Tensor, t: Tensor, u: Tensor, confidence: Tensor) -> Tensor:
        """The masks after the model has looked at them.

        Args:
            mask: (B, L) bool, what `mask` gave.
            t: (B,) mask rates.
            u: (B, L + 1) uniform noise in [0, 1), independent of that of the masks.
            confidence: (B, L) the model's log-probability of its best guess where masked.
        """
        return mask


@dataclass(frozen=True)
class Everything(Masking):
    """Every token whatever the rate: what is predicted where nothing needs to be hidden."""

    def mask(self, t: Tensor, u: Tensor, valid: Tensor | None) -> Tensor:
        """All but the padding."""
        return torch.ones_like(u, dtype=torch.bool) if valid is None else valid

    def most(self, t: Tensor, length: int) -> Tensor:
        """The length."""
        return torch.full(t.shape, length)

    def most_visible(self, t: Tensor, length: int) -> Tensor:
        """None."""
        return torch.zeros(t.shape, dtype=torch.int64)


@dataclass(frozen=True)
class Bernoulli(Masking):
    """Every token on its own with probability t."""

    def mask(self, t: Tensor, u: Tensor, valid: Tensor | None) -> Tensor:
        """Where u is below t."""
        mask = u < t[:, None]
        return mask if valid is None else mask & valid


@dataclass(frozen=True)
class FixedCount(Masking):
    """Exactly ceil(t n) of a sequence's n valid tokens, any of them alike.

    The number of masked tokens is then known from t alone, and the masked fraction is less than
    1/n above t.
    """

    def mask(self, t: Tensor, u: Tensor, valid: Tensor | None) -> Tensor:
        """The positions where u is least."""
        n = u.shape[1] if valid is None else valid.sum(dim=1)
        return exact_count((t * n).ceil().long(), u, valid)

    def most(self, t: Tensor, length: int) -> Tensor:
        """ceil(t L)."""
        return (t * length).ceil().long()

    def most_visible(self, t: Tensor, length: int) -> Tensor:
        """L - ceil(t L)."""
        return length - self.most(t, length)


@dataclass(frozen=True)
class Correlated(Masking):
    """Every token with probability t, those of neighbours not independently.

    Each position's noise is the normal distribution function of a stationary first-order
    autoregressive sequence, so every single one is uniform, as Bernoulli masks' is, and every mask
    is possible.

    Attributes:
        neighbours: correlation of that sequence between neighbours, in (-1, 1): positive masks
            come in longer runs, negative ones leave a masked token a visible neighbour more often.
    """

    neighbours: float
    float64: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not -1 < self.neighbours < 1:
            raise UserError(f"neighbours must be between -1 and 1, not {self.neighbours:g}")

    def mask(self, t: Tensor, u: Tensor, valid: Tensor | None) -> Tensor:
        """Where the sequence z_i = r z_(i-1) + sqrt(1 - r^2) e_i is below t's normal quantile."""
        r, place = self.neighbours, torch.arange(u.shape[1])
        gap = place[:, None] - place[None, :]
        weight = r ** gap.clamp(min=0).double() * (gap >= 0)
        weight[:, 1:] *= (1 - r**2) ** 0.5
        noise = torch.special.ndtri(u.double().clamp(min=2.0**-25)) @ weight.T
        return Bernoulli().mask(t, torch.special.ndtr(noise), valid)


@dataclass(frozen=True)
class Scattered(Correlated):
    """`Correlated` masks that leave a masked token a visible neighbour more often."""

    neighbours: float = -0.7


@dataclass(frozen=True)
class Spans(Correlated):
    """`Correlated` masks that come in longer runs."""

    neighbours: float = 0.7


@dataclass(frozen=True)
class OwnOrder(Masking):
    """The tokens that the model is surest of are shown, until about a share t of all is masked.

    Masks as they come up when a model generates by confidence: one step of its own unmasking, from
    (1 + t)/2 to t, at the price of a forward pass without gradient. PUMA (arXiv 2602.10314) lets
    training masks follow the model's unmasking order; starting half-way, and Gumbel noise on the
    log-confidences, which keeps every mask possible, are ours.
    """

    refines: ClassVar[bool] = True

    def mask(self, t: Tensor, u: Tensor, valid: Tensor | None) -> Tensor:
        """Every token with probability (1 + t)/2: half-way from all to t."""
        return Bernoulli().mask((1 + t) / 2, u, valid)

    def refine(self, mask: Tensor, t: Tensor, u: Tensor, confidence: Tensor) -> Tensor:
        """A share (1 - t)/(1 + t) of the masked tokens is shown, rounded up or down by chance."""
        v = u[:, :-1].clamp(2.0**-24, 1 - 2.0**-24)
        sureness = (confidence - (-v.log()).log()).masked_fill(~mask, -torch.inf)
        shown = (mask.sum(dim=1) * (1 - t) / (1 + t) + u[:, -1]).floor()
        ranks = sureness.argsort(dim=1, descending=True).argsort(dim=1)
        return mask & (ranks >= shown[:, None])


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


MASKINGS: dict[str, type[Masking]] = {
    "bernoulli": Bernoulli,
    "fixed-count": FixedCount,
    "correlated": Correlated,
    "scattered": Scattered,
    "spans": Spans,
    "own-order": OwnOrder,
}
"""The mask strategies by the name a recipe calls them: to add one, add a class and an entry."""
