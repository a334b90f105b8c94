"""The incomplete beta function and its inverse, which torch lacks."""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

_TINY = 1e-300
_FURTHEST = 745.0  # where exp(-z) ends


def log_beta(a: Tensor, b: Tensor) -> Tensor:
    """Logarithm of the beta function B(a, b)."""
    return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)


def log_beta_cdf(a: Tensor, b: Tensor, x: Tensor) -> Tensor:
    """Logarithm of the regularised incomplete beta function I_x(a, b), in float64.

    The continued fraction of DLMF 8.17.22, on the side of the mean where it converges fast, and
    I_x(a, b) = 1 - I_{1-x}(b, a) on the other.

    Args:
        a, b: positive parameters, broadcastable to x.
        x: points in [0, 1].
    """
    swap = x > (a + 1) / (a + b + 2)
    p, q, y = torch.where(swap, b, a), torch.where(swap, a, b), torch.where(swap, 1 - x, x)
    log_front = p * torch.log(y) + q * torch.log1p(-y) - log_beta(p, q) - torch.log(p)
    log_tail = log_front + torch.log(_continued_fraction(p, q, y))
    return torch.where(swap, torch.log1p(-torch.exp(log_tail)), log_tail)


def _continued_fraction(a: Tensor, b: Tensor, x: Tensor) -> Tensor:
    """1 / (1 + d1 / (1 + d2 / (1 + ...))) of DLMF 8.17.22, by Lentz's method."""
    c = torch.ones_like(x)
    d = 1 / _away_from_zero(1 - (a + b) * x / (a + 1))
    value = d.clone()
    for m in range(1, 1000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for coefficient in (even, odd):
            d = 1 / _away_from_zero(1 + coefficient * d)
            c = _away_from_zero(1 + coefficient / c)
            value = value * c * d
        if ((c * d - 1).abs() < 1e-14).all():
            break
    return value


def _away_from_zero(x: Tensor) -> Tensor:
    return torch.where(x.abs() < _TINY, _TINY, x)


def beta_quantile(a: float, b: float, u: Tensor) -> Tensor:
    """Inverse of I_x(a, b) in x: the point below which a Beta(a, b) variate falls with chance u.

    The upper half of u goes through the mirror image, where its tail has its full precision.

    Args:
        a, b: positive parameters.
        u: float64 probabilities in [0, 1], (n,).
    """
    x, upper = torch.empty_like(u), u > 0.5
    x[~upper] = torch.sigmoid(_lower_logit(a, b, u[~upper]))
    x[upper] = 1 - torch.sigmoid(_lower_logit(b, a, 1 - u[upper]))
    return x


def _lower_logit(a: float, b: float, u: Tensor) -> Tensor:
    """Logit of the quantile for u in [0, 1/2], started from a table."""
    grid_u, grid_z = _table(a, b)
    i = torch.searchsorted(grid_u, u.contiguous()).clamp(1, len(grid_u) - 1)
    return _solve(a, b, u, grid_z[i - 1] - 1e-9, grid_z[i] + 1e-9)


@lru_cache(maxsize=16)
def _table(a: float, b: float) -> tuple[Tensor, Tensor]:
    """Some u in [0, 1/2] and the logits of their quantiles, both increasing."""
    u = torch.linspace(0, 0.5, 257, dtype=torch.float64)
    furthest = torch.full_like(u, _FURTHEST)
    return u, _solve(a, b, u, -furthest, furthest)


def _solve(a: float, b: float, u: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Solve log I_sigmoid(z)(a, b) = log u for z between low and high.

    Newton's method; every step tightens the interval, and one that would leave it halves it.
    """
    p, q = u.new_tensor(a), u.new_tensor(b)
    log_u = torch.log(u.clamp_min(_TINY))
    z = (low + high) / 2
    for _ in range(200):
        log_cdf = log_beta_cdf(p, q, torch.sigmoid(z))
        low, high = torch.where(log_cdf < log_u, z, low), torch.where(log_cdf < log_u, high, z)
        log_slope = p * logsigmoid(z) + q * logsigmoid(-z) - log_beta(p, q) - log_cdf
        newton = z + (log_u - log_cdf) * torch.exp(-log_slope)
        inside = (newton >= low) & (newton <= high)
        step = torch.where(inside, newton, (low + high) / 2) - z
        z = z + step
        if (step.abs() <= 1e-12 * z.abs().clamp_min(1)).all():
            break
    return torch.where(u > 0, z, -_FURTHEST)
