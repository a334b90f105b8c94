"""How clear the gradient is at each mask rate: its mean against its variance over masks and data.

For one block masked at a rate t drawn uniformly in a bin, the loss is w(t) (1/L) sum of the masked
tokens' cross-entropy. Its gradient is drawn for several blocks and several masks of each, and
`unmask.analyze.learnability.moments` tells signal from noise.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.analyze.learnability.moments import Moments, jackknife, nested_moments
from unmask.data import Blocks
from unmask.diffusion.masking import bernoulli
from unmask.diffusion.noise import Stream, uniform, uniform_double
from unmask.diffusion.objective import WEIGHTINGS, predicted_loss
from unmask.diffusion.precision import finest
from unmask.diffusion.time import Uniform
from unmask.model import Transformer

ALL = "all"
GROUPS = ("embedding", "attention", "mlp", "head", "norms", ALL)
"""Groups of parameters; ``all`` is every one of them together."""

WEIGHTS = ("flat", "1/t")
"""The weightings looked at, by their names in `unmask.diffusion.objective.WEIGHTINGS`."""


@dataclass(frozen=True)
class Signal:
    """The moments of a bin's gradient for one weighting and group, with standard errors."""

    moments: Moments
    squared_mean_stderr: float
    snr_stderr: float


def group_of(name: str) -> str:
    """The group of a parameter of `unmask.model.Transformer`, by its name."""
    if "norm" in name:
        return "norms"
    parts = name.split(".")
    return next(group for group in ("embedding", "head", "attention", "mlp") if group in parts)


def gradient_signal(
    model: Transformer,
    blocks: Blocks,
    *,
    low: float,
    high: float,
    n_blocks: int,
    n_masks: int,
    mask_id: int,
    seed: int = 0,
    on_sample: Callable[[], None] = lambda: None,
) -> dict[str, dict[str, Signal]]:
    """Moments of the gradient of a single block's loss, mask rates uniform in (low, high).

    Memory: 2 x n_blocks copies of the parameters. The draws are functions of (seed, low) alone, and
    the blocks of the seed alone: they are shared between bins, models and steps.

    Args:
        model: its gradients are left cleared.
        blocks: drawn from with replacement, so that they are independent.
        n_blocks, n_masks: at least 3 blocks and 2 masks of each.
        on_sample: called after each of the n_blocks x n_masks gradients.

    Returns:
        Weighting -> group -> signal.
    """
    device = model.embedding.weight.device
    groups = {name: group_of(name) for name, _ in model.named_parameters()}
    size = sum(p.numel() for p in model.parameters())
    place = {w: torch.zeros(n_blocks, size, device=device) for w in WEIGHTS}
    squares = {w: {g: torch.zeros(n_blocks, dtype=torch.float64) for g in GROUPS} for w in WEIGHTS}
    chosen = draw_blocks(seed, n_blocks, len(blocks))
    for b in range(n_blocks):
        x, valid = blocks.batch(chosen[b : b + 1])
        x, valid = x.to(device), None if valid is None else valid.to(device)
        rates, noise = draw_masks(seed, low, high, b, n_masks, x.shape[1])
        for t, u in zip(rates, noise, strict=True):
            corrupted = bernoulli(x, t[None].to(device), u[None].to(device), valid, mask_id)
            if bool(corrupted.predicted.any()):  # else the gradient is 0
                hidden = model(corrupted.inputs, valid)
                per_token = torch.full((1,), 1 / x.shape[1], device=device)
                predicted_loss(hidden, x, corrupted.predicted, per_token, model.head).backward()
                gradient = [(groups[name], _gradient(p)) for name, p in model.named_parameters()]
                norms = _squared_norms(gradient)
                flat = torch.cat([g.flatten() for _, g in gradient])
                for w in WEIGHTS:
                    weight = float(WEIGHTINGS[w].weight(t, Uniform(low, high)))
                    place[w][b] += weight * flat
                    for g in GROUPS:
                        squares[w][g][b] += weight**2 * norms[g]
                model.zero_grad()
            on_sample()
    return {w: _signals(place[w], squares[w], groups, model, n_masks) for w in WEIGHTS}


def draw_blocks(seed: int, n: int, available: int) -> Tensor:
    """Blocks drawn with replacement: (n,) int64."""
    u = uniform_double(seed, Stream.SIGNAL_BLOCK, 0, torch.arange(n), 1).squeeze(1)
    return (u * available).long()


def draw_masks(
    seed: int, low: float, high: float, block: int, n: int, length: int
) -> tuple[Tensor, Tensor]:
    """Independent rates of one block's masks, uniform in (low, high], and their noise.

    Returns:
        (n,) float32 and (n, length) float32.
    """
    counter = round(low * 2**20)  # its own for every bin
    samples = block * n + torch.arange(n)
    u = uniform_double(seed, Stream.SIGNAL_TIME, counter, samples, 1).squeeze(1)
    rates = Uniform(low, high).quantile(1 - u).float()
    return rates, uniform(seed, Stream.SIGNAL_MASK, counter, samples, length)


def _gradient(p: Tensor) -> Tensor:
    return torch.zeros_like(p) if p.grad is None else p.grad.detach()


def _squared_norms(gradient: list[tuple[str, Tensor]]) -> dict[str, float]:
    norms = dict.fromkeys(GROUPS, 0.0)
    for group, g in gradient:
        value = float(g.square().sum(dtype=finest(g.device)))
        norms[group] += value
        norms[ALL] += value
    return norms


def _signals(
    sums: Tensor,
    squares: dict[str, Tensor],
    groups: dict[str, str],
    model: Transformer,
    masks: int,
) -> dict[str, Signal]:
    """Signals by group from the blocks' summed gradients (n, P)."""
    sizes = [p.numel() for p in model.parameters()]
    products = {g: torch.zeros(len(sums), len(sums), dtype=torch.float64) for g in GROUPS}
    for part, group in zip(sums.split(sizes, dim=1), groups.values(), strict=True):
        inner = (part @ part.T).cpu().double()
        products[group] += inner
        products[ALL] += inner
    return {
        g: Signal(
            nested_moments(products[g], squares[g], masks),
            jackknife(lambda m: m.squared_mean, products[g], squares[g], masks),
            jackknife(lambda m: m.snr, products[g], squares[g], masks),
        )
        for g in GROUPS
    }
