"""The reverse process: from masks (or nothing) to text."""

from collections.abc import Callable

import torch
from torch import Tensor

from unmask.diffusion.noise import Stream, uniform_double

Denoise = Callable[[Tensor, Tensor], Tensor]
"""(x, where) -> logits: x (B, L) tokens, where (B, L) bool with M true, logits (M, V)."""


def categorical(logits: Tensor, u: Tensor) -> Tensor:
    """Draw from softmax(logits) by inverting the cumulative distribution in float64.

    One uniform per draw, no Gumbel noise: float32 Gumbel draws are truncated and lower the
    temperature unasked (Zheng et al. 2024, arXiv 2409.02908).

    Args:
        logits: (M, V); -inf for tokens that must not be drawn.
        u: (M,) float64 in [0, 1).

    Returns:
        (M,) int64.
    """
    cumulative = torch.softmax(logits.double(), dim=-1).cumsum(dim=-1)
    total = cumulative[:, -1:]
    target = torch.minimum(u[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, target, right=True).squeeze(1)


def ancestral(
    denoise: Denoise,
    x: Tensor,
    mask_id: int,
    steps: int,
    seed: int,
    on_step: Callable[[Tensor], None] = lambda x: None,
) -> Tensor:
    """Sample by reversing the masking in ``steps`` equal steps of t from 1 to 0.

    Going from t to s, each masked token is revealed with probability (t - s)/t, from the model's
    prediction given what is visible (Sahoo et al. 2024, MDLM, arXiv 2406.07524). Which
    tokens are revealed does not depend on the predictions, so a step that reveals none costs
    nothing, and logits exist only where a token is drawn.

    Args:
        denoise: the model.
        x: (B, L) int64; masked positions are filled, the others are kept (a prompt).
        mask_id: the mask token.
        steps: number of steps, at least 1.
        seed: samples are a function of (seed, row, step).
        on_step: called with the tokens after each step (for progress).

    Returns:
        (B, L) int64 without masks.
    """
    rows = torch.arange(len(x))
    for k in range(steps):
        reveal = 1 / (steps - k)  # (t - s) / t with t = 1 - k / steps; 1 in the last step
        u = uniform_double(seed, Stream.SAMPLE_UNMASK, k, rows, x.shape[1]).to(x.device)
        where = (x == mask_id) & (u < reveal)
        if where.any():
            v = uniform_double(seed, Stream.SAMPLE_TOKEN, k, rows, x.shape[1]).to(x.device)
            x = x.masked_scatter(where, categorical(denoise(x, where), v[where]))
        on_step(x)
    return x


def left_to_right(
    denoise: Denoise,
    x: Tensor,
    mask_id: int,
    seed: int,
    on_step: Callable[[Tensor], None] = lambda x: None,
) -> Tensor:
    """Sample a causal model one token at a time (its inputs start with the mask token).

    Arguments and result as in `ancestral`; the network is run on the prefix at every token.
    """
    x, rows = x.clone(), torch.arange(len(x))
    start = torch.full_like(x[:, :1], mask_id)
    for i in range(x.shape[1]):
        where = torch.zeros_like(x[:, : i + 1], dtype=torch.bool)
        where[:, i] = x[:, i] == mask_id
        if where.any():
            prefix = torch.cat([start, x[:, :i]], dim=1)
            v = uniform_double(seed, Stream.SAMPLE_TOKEN, i, rows, 1).to(x.device).squeeze(1)
            drawn = categorical(denoise(prefix, where), v[where[:, i]])
            x[:, i] = x[:, i].masked_scatter(where[:, i], drawn)
        on_step(x)
    return x
