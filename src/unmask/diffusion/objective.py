"""The training objective: weightings w(t), and the cross-entropy where it is asked for.

Training loss = E_{t~p} [ w(t) (1/L) sum over predicted i of CE_i ]: with p uniform and w = 1/t it
is the NELBO. Any positive weight with full support has the same optimum (time-agnostic network,
infinite capacity).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.diffusion.linear_cross_entropy import (
    Projection,
    cross_entropies,
    log_confidences,
    weighted_cross_entropy_sum,
)
from unmask.diffusion.time import TimeDistribution


@dataclass(frozen=True)
class Weighting:
    """A weight w(t) on the summed cross-entropy of a sequence masked at rate t.

    Attributes:
        weight: (t, p) -> w(t), of t's shape and dtype; p is the distribution t was drawn from.
        mean: p -> E_{t~p}[w(t) t], the loss of a model whose every cross-entropy is 1. Dividing by
            it puts every recipe's loss on one scale: log V for an untrained network.
    """

    weight: Callable[[Tensor, TimeDistribution], Tensor]
    mean: Callable[[TimeDistribution], float]


def _mean_rate(p: TimeDistribution) -> float:
    """By the midpoint rule."""
    n = 4096
    midpoints = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return float(p.draw(midpoints).mean())


def _importance(t: Tensor, p: TimeDistribution) -> Tensor:
    """1/(t p(t)), where that overflows the largest number (at rates that mask nothing)."""
    return (1 / (t * p.pdf(t))).clamp(max=torch.finfo(t.dtype).max)


def _length_of_support(p: TimeDistribution) -> float:
    low, high = p.support
    return high - low


WEIGHTINGS: dict[str, Weighting] = {
    # The NELBO's own, for uniform t.
    "1/t": Weighting(lambda t, p: 1 / t, lambda p: 1.0),
    # Every predicted token counts alike.
    "flat": Weighting(lambda t, p: torch.ones_like(t), _mean_rate),
    # Unbiased for the NELBO (over p's support) whatever p is; the mean is E_p[1/p].
    "importance": Weighting(_importance, _length_of_support),
}
"""The weightings by the name a recipe calls them: to add one, add an entry."""


def predicted_cross_entropy(
    hidden: Tensor, targets: Tensor, predicted: Tensor, head: Projection
) -> tuple[Tensor, Tensor]:
    """Cross-entropy at the predicted positions only, without gradient: for evaluation.

    Args:
        hidden: (B, L, D) final hidden states.
        targets: (B, L) int64 clean tokens.
        predicted: (B, L) bool, M of them true.
        head: the vocabulary projection.

    Returns:
        The cross-entropies in nats, (M,) float32 in row order, and the row of each, (M,) int64.
    """
    where = predicted.flatten().nonzero().squeeze(1)
    hidden, targets, rows = _gather(hidden, targets, where)
    return cross_entropies(hidden, targets, head), rows


def predicted_confidence(hidden: Tensor, predicted: Tensor, head: Projection) -> Tensor:
    """Log-probability of the likeliest token at each predicted position, without gradient.

    Args:
        hidden: (B, L, D) final hidden states.
        predicted: (B, L) bool.
        head: the vocabulary projection.

    Returns:
        (B, L) float32, -inf where nothing is predicted.
    """
    confidence = torch.full(predicted.shape, -torch.inf, device=hidden.device)
    confidence[predicted] = log_confidences(hidden[predicted], head).float()
    return confidence


def predicted_loss(
    hidden: Tensor,
    targets: Tensor,
    predicted: Tensor,
    weights: Tensor,
    head: Projection,
    budget: int | None = None,
) -> Tensor:
    """Weighted sum of the cross-entropies at the predicted positions: for training.

    Args:
        hidden: (B, L, D) final hidden states, which receive a gradient, like the head's weight.
        targets: (B, L) int64 clean tokens.
        predicted: (B, L) bool.
        weights: (B,) weight of each row.
        head: the vocabulary projection.
        budget: at least as many as are predicted. With it so many positions are projected
            whatever the masks, the superfluous ones with weight 0: every shape is constant, and
            nothing waits for the device to count.

    Returns:
        Sum over rows b of weights[b] times the row's summed cross-entropy in nats, a scalar.

    Raises:
        RuntimeError: more are predicted than the budget (on a GPU at the next synchronisation).
    """
    return loss_and_rows(hidden, targets, predicted, weights, head, budget)[0]


def loss_and_rows(
    hidden: Tensor,
    targets: Tensor,
    predicted: Tensor,
    weights: Tensor,
    head: Projection,
    budget: int | None = None,
) -> tuple[Tensor, Tensor]:
    """`predicted_loss`, and (B,) the summed cross-entropy of each row in nats, without gradient."""
    flat = predicted.flatten()
    if budget is None:
        where = flat.nonzero().squeeze(1)
    else:
        torch._assert_async(flat.sum() <= budget, f"more predicted positions than {budget}")
        first = flat.byte().argsort(descending=True, stable=True)  # the predicted ones
        where = first[:budget]
    hidden, targets, rows = _gather(hidden, targets, where)
    real = flat[where]
    loss, ce = weighted_cross_entropy_sum(hidden, targets, weights[rows] * real, head)
    return loss, ce.new_zeros(len(weights)).index_add_(0, rows, ce * real)


def _gather(hidden: Tensor, targets: Tensor, where: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states (M, D), targets (M,) and rows (M,) of the flat positions ``where`` (M,)."""
    return (
        hidden.flatten(0, 1).index_select(0, where),
        targets.flatten().index_select(0, where),
        where // targets.shape[1],
    )
