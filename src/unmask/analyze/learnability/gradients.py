"""How clear the gradient is at each mask rate: its mean against its variance over masks and data.

For one block masked at a rate t drawn uniformly in a bin, the loss is w(t) (1/L) sum of the masked
tokens' cross-entropy. Its gradient is drawn for several blocks and several masks of each, and
their moments tell signal from noise.

Mean and variance of vectors drawn in two levels, from inner products alone, without bias.
Vectors g_bm, of m masks for each of n blocks: blocks are independent, and so are the masks given
their block. Of interest are the squared norm of the mean, |E g|^2, and the two parts of the total
variance E|g - E g|^2: over masks, E|g - E[g|block]|^2, and over blocks, E|E[g|block] - E g|^2.

The squared norm of the sample mean would overstate |E g|^2 by the variance over n. Products of
different blocks' means have no such bias:

    |E g|^2  ~  mean over b != b' of  s_b . s_b' / m^2,      s_b the sum of block b's m vectors
    masks    ~  sum over b of (sum over m of |g_bm|^2 - |s_b|^2 / m) / (n (m - 1))
    blocks   ~  (variance of the s_b / m over the n blocks)  -  masks / m

(the nested analysis of variance by the method of moments; the last can come out negative).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.data.blocks import Blocks
from unmask.diffusion.masking import Bernoulli
from unmask.diffusion.noise import Stream, uniform, uniform_double
from unmask.diffusion.objective import WEIGHTINGS, predicted_loss
from unmask.diffusion.precision import finest
from unmask.diffusion.time import Uniform
from unmask.model.network import Network

ALL = "all"
PARAMETER_GROUPS = ("embedding", "attention", "mlp", "head", "norms", ALL)
"""Groups of parameters; ``all`` is every one of them together."""

WEIGHTS = ("flat", "1/t")
"""The weightings looked at, by their names in `unmask.diffusion.objective.WEIGHTINGS`."""


@dataclass(frozen=True)
class Moments:
    """Estimates of the moments; each may be negative by chance where the truth is near 0.

    Attributes:
        squared_mean: |E g|^2.
        mask_variance: over masks (and mask rates within a bin) for a given block.
        data_variance: over blocks, of their mean over masks.
    """

    squared_mean: float
    mask_variance: float
    data_variance: float

    @property
    def variance(self) -> float:
        """Of a single vector, both parts."""
        return self.mask_variance + self.data_variance

    @property
    def snr(self) -> float:
        """Signal-to-noise ratio of one vector, |E g|^2 over its variance.

        The mean of B vectors of B blocks has B times this: 1/snr is the batch at which signal and
        noise are equal (the "simple noise scale" of McCandlish et al. 2018, arXiv 1812.06162).
        """
        return self.squared_mean / self.variance if self.variance > 0 else float("nan")


def nested_moments(products: Tensor, squares: Tensor, masks: int) -> Moments:
    """Estimate the moments.

    Args:
        products: (n, n) inner products of the blocks' sums, s_b . s_b'.
        squares: (n,) sum over a block's vectors of their squared norm.
        masks: m, vectors in each block.

    Raises:
        ValueError: fewer than two blocks or two masks, which have no variance.
    """
    n = len(squares)
    if n < 2 or masks < 2:
        raise ValueError(f"variances need two blocks and two masks, not {n} and {masks}")
    own, everything = products.diagonal().double().sum(), products.double().sum()
    return _from_sums(n, masks, float(everything), float(own), float(squares.double().sum()))


def _from_sums(n: int, masks: int, everything: float, own: float, squares: float) -> Moments:
    """Moments from the sum of all inner products, of the diagonal ones, and of the squares."""
    within = (squares - own / masks) / (n * (masks - 1))
    between = (own - everything / n) / (masks**2 * (n - 1))
    squared_mean = (everything - own) / (n * (n - 1) * masks**2)
    return Moments(squared_mean, within, between - within / masks)


def jackknife(
    of: Callable[[Moments], float], products: Tensor, squares: Tensor, masks: int
) -> float:
    """Standard error over blocks of a function of the moments, leaving out a block at a time.

    Arguments as in `nested_moments`; needs at least three blocks.
    """
    products, squares = products.double(), squares.double()
    n, diagonal = len(squares), products.diagonal()
    everything = products.sum() - 2 * products.sum(dim=1) + diagonal
    rest = zip(everything, diagonal.sum() - diagonal, squares.sum() - squares, strict=True)
    values = [of(_from_sums(n - 1, masks, float(a), float(b), float(c))) for a, b, c in rest]
    x = torch.tensor(values, dtype=torch.float64)
    return float(((n - 1) / n * ((x - x.mean()) ** 2).sum()).sqrt())


@dataclass(frozen=True)
class Signal:
    """The moments of a bin's gradient for one weighting and group, with standard errors."""

    moments: Moments
    squared_mean_stderr: float
    snr_stderr: float


def group_of(name: str) -> str:
    """The group of a network's parameter, by its name; ``other`` where that says none."""
    if "norm" in name:
        return "norms"
    parts = name.split(".")
    groups = ("embedding", "head", "attention", "mlp")
    return next((group for group in groups if group in parts), "other")


def gradient_signal(
    model: Network,
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
    device = model.head.weight.device
    groups = {name: group_of(name) for name, _ in model.named_parameters()}
    size = sum(p.numel() for p in model.parameters())
    place = {w: torch.zeros(n_blocks, size, device=device) for w in WEIGHTS}
    squares = {
        w: {g: torch.zeros(n_blocks, dtype=torch.float64) for g in PARAMETER_GROUPS}
        for w in WEIGHTS
    }
    chosen = draw_blocks(seed, n_blocks, len(blocks))
    for b in range(n_blocks):
        x, valid = blocks.batch(chosen[b : b + 1])
        maskable = blocks.maskable(chosen[b : b + 1])
        x, valid = x.to(device), None if valid is None else valid.to(device)
        maskable = None if maskable is None else maskable.to(device)
        rates, noise = draw_masks(seed, low, high, b, n_masks, x.shape[1])
        for t, u in zip(rates, noise, strict=True):
            mask = Bernoulli().mask(t[None].to(device), u[None].to(device), maskable)
            if bool(mask.any()):  # else the gradient is 0
                hidden = model(x.masked_fill(mask, mask_id), valid)
                per_token = torch.full((1,), 1 / x.shape[1], device=device)
                predicted_loss(hidden, x, mask, per_token, model.head).backward()
                gradient = [(groups[name], _gradient(p)) for name, p in model.named_parameters()]
                norms = _squared_norms(gradient)
                flat = torch.cat([g.flatten() for _, g in gradient])
                for w in WEIGHTS:
                    weight = float(WEIGHTINGS[w].weight(t, Uniform(low, high)))
                    place[w][b] += weight * flat
                    for g in PARAMETER_GROUPS:
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
    norms = dict.fromkeys(PARAMETER_GROUPS, 0.0)
    for group, g in gradient:
        value = float(g.square().sum(dtype=finest(g.device)))
        norms[group] += value
        norms[ALL] += value
    return norms


def _signals(
    sums: Tensor,
    squares: dict[str, Tensor],
    groups: dict[str, str],
    model: Network,
    masks: int,
) -> dict[str, Signal]:
    """Signals by group from the blocks' summed gradients (n, P)."""
    sizes = [p.numel() for p in model.parameters()]
    products = {g: torch.zeros(len(sums), len(sums), dtype=torch.float64) for g in PARAMETER_GROUPS}
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
        for g in PARAMETER_GROUPS
    }
