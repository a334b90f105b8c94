"""Vocabulary projection and cross-entropy in one, a chunk of rows at a time.

For z = W h + b the gradient of CE = logsumexp(z) - z_target with respect to z is softmax(z) minus
the one-hot target. A chunk's logits therefore give its loss and its gradients at once, and are
gone before the next chunk's are made: (M, V) logits never exist, neither forward nor backward.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


class Projection(Protocol):
    """A linear map onto the vocabulary: `unmask.model.Head`, ``torch.nn.Linear``."""

    @property
    def weight(self) -> Tensor:
        """(V, D)."""

    @property
    def bias(self) -> Tensor | None:
        """(V,), -inf at tokens that are never predicted."""


def cross_entropies(hidden: Tensor, targets: Tensor, head: Projection) -> Tensor:
    """Cross-entropy of each row, in nats: (M,) float32 (float64 for float64). No gradient.

    Args:
        hidden: (M, D) hidden states.
        targets: (M,) int64, each a row of the head's weight.
        head: its logits are computed in autocast's precision, the softmax in float32.
    """
    return _by_rows(
        hidden, head, lambda z, rows: F.cross_entropy(z, targets[rows], reduction="none")
    )


def log_confidences(hidden: Tensor, head: Projection) -> Tensor:
    """Logarithm of the largest probability in each row, (M,) float32. No gradient.

    Args:
        hidden: (M, D) hidden states.
        head: as in `cross_entropies`.
    """
    return _by_rows(hidden, head, lambda z, _: z.amax(dim=1) - z.logsumexp(dim=1))


@torch.no_grad()
def _by_rows(hidden: Tensor, head: Projection, of: Callable[[Tensor, slice], Tensor]) -> Tensor:
    """A number of each row's logits, (M,), by a function of a chunk's logits and its rows."""
    with _precision(hidden) as (dtype, exact):
        found = torch.empty(len(hidden), dtype=exact, device=hidden.device)
        weight, bias = _cast(head.weight, dtype), _cast(head.bias, dtype)
        for rows in _chunks(hidden, weight):
            found[rows] = of(F.linear(hidden[rows].to(dtype), weight, bias).to(exact), rows)
    return found


def weighted_cross_entropy_sum(
    hidden: Tensor, targets: Tensor, weights: Tensor, head: Projection
) -> tuple[Tensor, Tensor]:
    """Sum over rows of weight times cross-entropy, a scalar, differentiable once; and its parts.

    Args:
        hidden: (M, D) hidden states; they and the head's weight receive gradients.
        targets: (M,) int64.
        weights: (M,), constants.
        head: as in `cross_entropies`.

    Returns:
        The sum, and the cross-entropies, (M,), without gradient.

    Raises:
        ValueError: the head's bias or the weights want a gradient, which is not computed.
    """
    if weights.requires_grad or (head.bias is not None and head.bias.requires_grad):
        raise ValueError("no gradient is computed for the head's bias and the weights")
    return _WeightedSum.apply(  # type: ignore[no-untyped-call,no-any-return]
        hidden, head.weight, head.bias, targets, weights
    )


class _WeightedSum(torch.autograd.Function):
    """The forward pass computes the gradients too, while it has the logits."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, w: Tensor
    ) -> tuple[Tensor, Tensor]:
        wants_hidden, wants_weight = ctx.needs_input_grad[:2]
        d_hidden = torch.zeros_like(hidden) if wants_hidden else None
        d_weight = torch.zeros_like(weight) if wants_weight else None
        with _precision(hidden) as (dtype, exact):
            ce = torch.empty(len(hidden), dtype=exact, device=hidden.device)
            low, low_bias = _cast(weight, dtype), _cast(bias, dtype)
            for rows in _chunks(hidden, weight):
                h, w_rows = hidden[rows].to(dtype), w[rows, None].to(exact)
                target = targets[rows, None]
                # In place from here on: a chunk's logits turn into its gradient.
                z = F.linear(h, low, low_bias).to(exact)
                top = z.amax(dim=1, keepdim=True)
                at_target = z.gather(1, target)
                p = z.sub_(top).exp_()
                partition = p.sum(dim=1, keepdim=True)
                ce[rows] = (partition.log() + top - at_target).squeeze(1)
                if d_hidden is None and d_weight is None:
                    continue
                d_z = p.mul_(w_rows / partition).scatter_add_(1, target, -w_rows).to(dtype)
                if d_hidden is not None:
                    d_hidden[rows] = d_z @ low
                if d_weight is not None:
                    d_weight += d_z.T @ h
            total = (w.to(exact) * ce).sum()
        ctx.save_for_backward(d_hidden, d_weight)
        ctx.mark_non_differentiable(ce)
        return total, ce

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        d_hidden, d_weight = ctx.saved_tensors
        return (
            None if d_hidden is None else d_hidden * scale.to(d_hidden.dtype),
            None if d_weight is None else d_weight * scale.to(d_weight.dtype),
            None,
            None,
            None,
        )


@contextmanager
def _precision(hidden: Tensor) -> Iterator[tuple[torch.dtype, torch.dtype]]:
    """The dtype of the matrix products (autocast's, where on) and that of softmax and sums."""
    device = hidden.device.type
    on = torch.is_autocast_enabled(device) and hidden.dtype != torch.float64
    dtype = torch.get_autocast_dtype(device) if on else hidden.dtype
    with torch.autocast(device, enabled=False):
        yield dtype, torch.promote_types(dtype, torch.float32)


def _cast(x: Any, dtype: torch.dtype) -> Any:
    return None if x is None else x.to(dtype)


def _chunks(hidden: Tensor, weight: Tensor) -> Iterator[slice]:
    """Slices of rows: on a CPU so few that a chunk's logits stay in its caches."""
    rows = 256 if hidden.device.type == "cpu" else max(256, 2**26 // len(weight))
    for start in range(0, len(hidden), rows):
        yield slice(start, start + rows)
