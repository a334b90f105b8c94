"""The quantile function of a distribution of which only the density is known."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.base.errors import UserError

_KNOTS = 8192
_LEAST = -87.0  # the logit of the least mask rate, that of float32
_END = 18.0  # nearer than exp(-18) to an end other than 0 rounding spoils what a density says
_LIKELIEST = 40.0  # a float64 probability's logit is less than that


@dataclass(frozen=True)
class QuantileTable:
    """The quantile function as a monotone cubic spline between logits.

    With s the place of t between the ends of the support, logit(s) is a smooth function of
    logit(u), and a straight line towards an end where the density is a power of the distance, be
    that a zero or a pole: so the spline is continued beyond its last knots.

    Attributes:
        low, high: the support.
        y: (n,) float64, increasing: logits of probabilities u.
        z: (n,) logits of the places.
        slope: (n,) dz / dy.
    """

    low: float
    high: float
    y: Tensor
    z: Tensor
    slope: Tensor

    def __call__(self, u: Tensor) -> Tensor:
        """Quantiles of float64 probabilities in [0, 1] on the CPU, of any shape."""
        y = torch.logit(u)
        inside = y.clamp(self.y[0], self.y[-1])
        right = torch.searchsorted(self.y, inside.contiguous()).clamp(min=1)
        left = right - 1
        step = self.y[right] - self.y[left]
        x = (inside - self.y[left]) / step
        z = self.z[left] + (self.z[right] - self.z[left]) * x * x * (3 - 2 * x)
        bend = self.slope[left] * (1 - x) - self.slope[right] * x
        z = z + step * x * (1 - x) * bend
        beyond = y - inside
        z = z + beyond * torch.where(beyond < 0, self.slope[0], self.slope[-1])
        return self.low + (self.high - self.low) * torch.sigmoid(z)


def quantile_table(
    pdf: Callable[[Tensor], Tensor], support: tuple[float, float], name: str
) -> QuantileTable:
    """Tabulate the quantile function of a density by Gauss-Legendre quadrature.

    Cells are even in logit(s) and in logit(u) at once: both tails and any peak are resolved.
    Quantiles are accurate to about 1e-10 of t or of u, and to 1e-6 next to a kink.

    Args:
        pdf: the density at float64 mask rates on the CPU, positive between the ends.
        support: the ends.
        name: of the distribution, for the error.

    Raises:
        UserError: the density does not integrate to 1, or is too narrow to tell.
    """
    low, high = support

    def density(z: Tensor) -> Tensor:  # of the logit
        s = torch.sigmoid(z)
        return pdf(low + (high - low) * s) * (high - low) * s * torch.sigmoid(-z)

    def tail(end: float, towards: float) -> float:
        """Mass beyond an end, where the density falls exponentially in the logit."""
        at_end, before = density(torch.tensor([end, end + towards], dtype=torch.float64)).log()
        return float(at_end.exp() * abs(towards) / (before - at_end)) if before > at_end else 0.0

    first = _LEAST if low == 0 else -_END
    even = torch.linspace(first, _END, _KNOTS, dtype=torch.float64)
    levels = torch.linspace(-_LIKELIEST, _LIKELIEST, _KNOTS, dtype=torch.float64)
    edges, before = even, tail(first, 1.0)
    for _ in range(4):  # each time finer where the last found the mass to be
        below, above = _masses(density, edges, before)
        y = below.log() - above.log()
        known = y.isfinite()
        known[1:] &= y.diff() > 0
        y, z = y[known], edges[known]
        if len(y) < 2:
            break
        edges = torch.cat([even, _interpolate(levels, y, z)]).unique()
    missing, expected = 1 - float(below[-1]), tail(_END, -1.0)
    if len(y) < 2 or abs(missing - expected) > 0.02:
        raise UserError(
            f"{name}: its density integrates to {1 - missing + expected:.4g} over ({low:g}, "
            f"{high:g}), not to 1, or has a peak too narrow to see"
        )
    secant = z.diff() / y.diff()
    steepest = 3 * torch.minimum(torch.cat([secant[:1], secant]), torch.cat([secant, secant[-1:]]))
    slope = (below * above)[known] / density(z)
    return QuantileTable(low, high, y, z, torch.minimum(slope, steepest))


def _masses(
    density: Callable[[Tensor], Tensor], edges: Tensor, before: float
) -> tuple[Tensor, Tensor]:
    """Mass below and above each of the increasing edges, given that below the first of them."""
    nodes, weights = _gauss_legendre(8)
    half = edges.diff()[:, None] / 2
    cells = (density(edges[:-1, None] + half * (1 + nodes)) * weights * half).sum(dim=1)
    start = cells.new_tensor([before])
    below = torch.cat([start, cells]).cumsum(0)
    after = (1 - below[-1:]).clamp(min=0)
    return below, torch.cat([cells, after]).flip(0).cumsum(0).flip(0)


def _gauss_legendre(n: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights on [-1, 1], (n,) each: the Golub-Welsch algorithm."""
    k = torch.arange(1, n, dtype=torch.float64)
    nodes, vectors = torch.linalg.eigh(torch.diag(k / (4 * k * k - 1).sqrt(), -1))
    return nodes, 2 * vectors[0] ** 2


def _interpolate(x: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """Linear interpolation between points (xs, ys), xs increasing; constant beyond them."""
    x = x.clamp(xs[0], xs[-1])
    right = torch.searchsorted(xs, x).clamp(min=1)
    share = (x - xs[right - 1]) / (xs[right] - xs[right - 1])
    return ys[right - 1] + share * (ys[right] - ys[right - 1])
