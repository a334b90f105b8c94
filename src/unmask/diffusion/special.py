"""The incomplete beta function and its inverse, which torch lacks."""

import torch
from torch import Tensor

_TINY = 1e-300


def log_beta(a: Tensor, b: Tensor) -> Tensor:
    """Logarithm of the beta function B(a, b)."""
    return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)


def beta_cdf(a: Tensor, b: Tensor, x: Tensor) -> Tensor:
    """Regularised incomplete beta function I_x(a, b), in float64.

    The continued fraction of DLMF 8.17.22, on the side of the mean where it converges fast, and
    I_x(a, b) = 1 - I_{1-x}(b, a) on the other.

    Args:
        a, b: positive parameters, broadcastable to x.
        x: points in [0, 1].
    """
    swap = x > (a + 1) / (a + b + 2)
    p, q, y = torch.where(swap, b, a), torch.where(swap, a, b), torch.where(swap, 1 - x, x)
    log_front = p * torch.log(y) + q * torch.log1p(-y) - log_beta(p, q) - torch.log(p)
    tail = torch.exp(log_front) * _continued_fraction(p, q, y)
    return torch.where(swap, 1 - tail, tail)


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
        if ((c * d - 1).abs() < 1e-15).all():
            break
    return value


def _away_from_zero(x: Tensor) -> Tensor:
    return torch.where(x.abs() < _TINY, _TINY, x)


def beta_quantile(a: float, b: float, u: Tensor) -> Tensor:
    """Inverse of `beta_cdf` in x: the point below which a Beta(a, b) variate falls with chance u.

    Newton's method on log I_x against log u in z = logit(x), where log I is concave and
    increasing, so that it converges from anywhere. The upper half goes through the mirror image.

    Args:
        a, b: positive parameters.
        u: float64 probabilities in [0, 1].
    """
    upper = u > 0.5
    first, second = u.new_tensor(a), u.new_tensor(b)
    p, q = torch.where(upper, second, first), torch.where(upper, first, second)
    log_u = torch.log(torch.where(upper, 1 - u, u).clamp_min(_TINY))
    z = torch.log(p) - torch.log(q)  # logit of the mean
    for _ in range(100):
        x = torch.sigmoid(z)
        cdf = beta_cdf(p, q, x)
        log_slope = (
            p * torch.nn.functional.logsigmoid(z)
            + q * torch.nn.functional.logsigmoid(-z)
            - log_beta(p, q)
        )
        step = (log_u - torch.log(cdf.clamp_min(_TINY))) * torch.exp(torch.log(cdf) - log_slope)
        z = z + step.clamp(-50, 50)
        if (step.abs() <= 1e-13 * z.abs().clamp_min(1)).all():
            break
    x = torch.sigmoid(z)
    return torch.where(upper, 1 - x, x)
