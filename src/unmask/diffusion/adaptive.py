"""Distributions of the mask rate that are fitted while training, to what its steps meet anyway.

Every step knows the cross-entropy of each of its sequences and the rate it was masked at. Averages
of them over the last hundred steps or so, by bin of the rate (`RateStatistics`), say where
sequences cost most, vary most and improve fastest; a `Fit` makes a distribution of that. No forward
pass is added.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from unmask.diffusion.time import Density, TimeDistribution, TruncatedNormal, Uniform

BINS = 20
REFIT_EVERY = 50
"""Steps between two fits: the only ones that wait for the device."""
_SLOW, _FAST = 0.99, 0.97  # decays of a step's weight in the averages
_ROWS = ("sequences", "loss", "loss_squared", "nats", "masked", "recent_nats", "recent_masked")


class Seen(NamedTuple):
    """What a step met in each of its samples, (b,) each.

    Attributes:
        t: mask rates.
        nats: summed cross-entropies.
        masked: how many tokens were predicted.
        tokens: how many could be.
    """

    t: Tensor
    nats: Tensor
    masked: Tensor
    tokens: Tensor


class RateStatistics:
    """What the sequences of the last steps cost, by bin of the mask rate.

    ``average`` (7, BINS) float32 lives on the device and is added to at each step; ``fitted``, its
    copy on the CPU, is taken every `REFIT_EVERY` steps, so that a fit holds for as many. Both
    belong into a checkpoint.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self.average = torch.zeros(len(_ROWS), BINS, device=device)
        self.fitted = torch.zeros(len(_ROWS), BINS)
        decay = [_SLOW] * 5 + [_FAST] * 2
        self._decay = torch.tensor(decay, device=device)[:, None]

    def add(self, seen: Seen) -> None:
        """Take the samples of a step."""
        t, nats, masked, tokens = seen
        loss = nats / (t * tokens)
        rows = torch.stack([torch.ones_like(loss), loss, loss**2, nats, masked, nats, masked])
        bins = (t * BINS).long().clamp(max=BINS - 1)
        self.average *= self._decay
        self.average.index_add_(1, bins, rows.float())

    def at(self, step: int) -> "RateStatistics":
        """Itself, fit to be read at a step (counted from 0)."""
        if step % REFIT_EVERY == 0:
            self.fitted = self.average.detach().cpu().clone()
        return self

    def tensors(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        return {"average": self.average, "fitted": self.fitted}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """From a checkpoint."""
        self.average.copy_(tensors["average"])
        self.fitted = torch.empty_like(self.fitted).copy_(tensors["fitted"])

    def __getitem__(self, row: str) -> Tensor:
        """One of the fitted averages, (BINS,) float64."""
        return self.fitted[_ROWS.index(row)].double()


@dataclass(frozen=True)
class Histogram(Density):
    """A density that is constant in each of n equal bins of [0, 1].

    Attributes:
        probabilities: of the bins, positive, their sum 1.
    """

    probabilities: tuple[float, ...]

    def _cumulative(self) -> tuple[Tensor, Tensor]:
        """Probability of the bins, and of what lies before each."""
        p = torch.tensor(self.probabilities, dtype=torch.float64)
        return p, p.cumsum(0) - p

    def _draw(self, u: Tensor) -> Tensor:
        p, before = self._cumulative()
        bins = torch.searchsorted(before, u.contiguous(), right=True) - 1
        return (bins + ((u - before[bins]) / p[bins]).clamp(0, 1)) / len(p)

    def _pdf(self, t: Tensor) -> Tensor:
        p, _ = self._cumulative()
        return p[(t * len(p)).long().clamp(max=len(p) - 1)] * len(p)


Fit = Callable[[RateStatistics], TimeDistribution | None]
"""None as long as too little has been seen."""


def least_varying_window(seen: RateStatistics) -> Uniform | None:
    """The uniform window, half of [0, 1] wide, in which the 1/t-weighted loss varies least.

    The clipped schedule of BD3-LM (arXiv 2503.09573, section 5) by the variance of the bound's
    estimate, here over the sequences of training in place of a grid search at validation.
    """
    if not _everywhere(seen):
        return None
    n, width = seen["sequences"], BINS // 2
    moments = torch.stack([seen["loss"] / n, seen["loss_squared"] / n])
    first, second = moments.unfold(1, width, 1).mean(dim=2)
    low = int((second - first**2).argmin())
    return Uniform(low / BINS, (low + width) / BINS)


def root_mean_square(seen: RateStatistics) -> Histogram | None:
    """p(t) proportional to the root of the mean squared 1/t-weighted loss at t.

    Of all densities it gives the importance-weighted loss the least variance. P-POTS (arXiv
    2511.18159) says so of gradients and fits a curve; the loss in the gradient's place, and a
    histogram, are ours.
    """
    if not _everywhere(seen):
        return None
    heights = (seen["loss_squared"] / seen["sequences"]).sqrt()
    return Histogram(tuple((heights / heights.sum()).tolist()))


def where_it_falls(seen: RateStatistics) -> TruncatedNormal | None:
    """The bell over the rates at which the cross-entropy per masked token falls fastest.

    The fall at a rate is its average over the last hundred steps less that over the last thirty;
    the bell has the centre of the falls and half of their spread (our choice: with all of it the
    bell would be nearly as wide as a uniform density), but not under 0.05.
    """
    if not _everywhere(seen):
        return None
    fall = seen["nats"] / seen["masked"] - seen["recent_nats"] / seen["recent_masked"]
    fall = fall.clamp(min=0)
    if not fall.sum() > 0:
        return None
    middle = (torch.arange(BINS, dtype=torch.float64) + 0.5) / BINS
    share = fall / fall.sum()
    centre = float((share * middle).sum())
    spread = float((share * (middle - centre) ** 2).sum().sqrt())
    return TruncatedNormal(centre, max(spread / 2, 0.05))


def _everywhere(seen: RateStatistics) -> bool:
    """Whether every bin has met some sequences lately, and masked tokens among them."""
    return bool((seen["sequences"] >= 1).all() and (seen["recent_masked"] >= 1).all())


FITS: dict[str, Fit] = {
    "none": lambda _: None,
    "least-variance-window": least_varying_window,
    "root-mean-square": root_mean_square,
    "progress": where_it_falls,
}
"""The fits by the name a recipe calls them; ``none``: the distribution stays as it is."""
EXPLORED = 0.1
"""Share of the rates that stay uniform under a fit: it sees every rate, and none is left out."""
