"""Distributions of the mask rate t, and how a batch of rates is drawn from them.

Time is the mask rate: each token is replaced by the mask token with probability t. A distribution
is its density; drawing is ``draw(u)`` with u uniform. With *stratified* u the n rates of a batch
cover the distribution evenly, whatever it is.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor

from unmask.base.errors import UserError
from unmask.diffusion.quantile import QuantileTable, quantile_table

_SQRT_TWO_PI = math.sqrt(2 * math.pi)
_SMALLEST_T = torch.finfo(torch.float32).tiny  # 1 / t stays finite in float32


class TimeDistribution(ABC):
    """A distribution of the mask rate on (0, 1], with a positive density between ``support``.

    Its mathematics is done in float64 on the CPU, whatever the device and dtype of the arguments;
    results come back in these.
    """

    def draw(self, u: Tensor) -> Tensor:
        """Mask rates so distributed for u uniform in [0, 1]; even strata of u cover them evenly.

        Args:
            u: any shape.

        Returns:
            t of u's shape and dtype, in (0, 1].
        """
        low, high = self.support
        t = self._draw(u.cpu().double()).clamp(max(low, _SMALLEST_T), high)
        return t.to(u.dtype).to(u.device)

    def at_most(self, u: Tensor) -> Tensor:
        """The highest rates that draws up to u can reach, of u's shape and dtype.

        The end of the support, where rates need not rise with u.
        """
        return torch.full_like(u, self.support[1])

    def at_least(self, u: Tensor) -> Tensor:
        """The lowest rates that draws from u on can reach, of u's shape and dtype.

        The beginning of the support, where rates need not rise with u.
        """
        return torch.full_like(u, self.support[0])

    def pdf(self, t: Tensor) -> Tensor:
        """Density at mask rates t (any shape); zero outside the support.

        The support's ends are rounded as t is: what `draw` gives always has a density.
        """
        rates = t.cpu()
        low, high = rates.new_tensor(self.support)
        inside = (rates >= low) & (rates <= high)
        density = self._pdf(rates.double().clamp(*self.support))
        return torch.where(inside, density, 0.0).to(t.dtype).to(t.device)

    @property
    def support(self) -> tuple[float, float]:
        """The least and the greatest mask rate."""
        return 0.0, 1.0

    @abstractmethod
    def _draw(self, u: Tensor) -> Tensor: ...

    @abstractmethod
    def _pdf(self, t: Tensor) -> Tensor: ...


class Density(TimeDistribution):
    """A distribution that is given by its density: a subclass needs `_pdf` alone.

    It is a frozen dataclass whose fields are the parameters. `_draw`, the quantile, may be given in
    closed form where there is one.
    """

    def quantile(self, u: Tensor) -> Tensor:
        """Mask rates below which a draw falls with probability u.

        Args:
            u: probabilities in [0, 1], any shape.

        Returns:
            t of u's shape and dtype, in (0, 1] and non-decreasing in u.
        """
        return self.draw(u)

    def at_most(self, u: Tensor) -> Tensor:
        """The quantile: rates rise with u."""
        return self.draw(u)

    def at_least(self, u: Tensor) -> Tensor:
        """The quantile: rates rise with u."""
        return self.draw(u)

    def _draw(self, u: Tensor) -> Tensor:
        return _table(self)(u)


@lru_cache(maxsize=16)
def _table(of: Density) -> QuantileTable:
    return quantile_table(of._pdf, of.support, str(of))


TIME_DISTRIBUTIONS: dict[str, type[Density]] = {}
"""The distributions by the name a recipe calls them."""

D = TypeVar("D", bound=type[Density])


def register(name: str) -> Callable[[D], D]:
    """Enter a distribution (a dataclass, its fields the parameters) in `TIME_DISTRIBUTIONS`."""

    def enter(cls: D) -> D:
        TIME_DISTRIBUTIONS[name] = cls
        return cls

    return enter


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)


@register("uniform")
@dataclass(frozen=True)
class Uniform(Density):
    """t ~ U[low, high], 0 <= low < high <= 1."""

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        _require(0 <= self.low < self.high <= 1, f"{self}: need 0 <= low < high <= 1")

    @property
    def support(self) -> tuple[float, float]:
        """``low`` and ``high``."""
        return self.low, self.high

    def _draw(self, u: Tensor) -> Tensor:
        return self.low + (self.high - self.low) * u

    def _pdf(self, t: Tensor) -> Tensor:
        return torch.ones_like(t) / (self.high - self.low)


@register("truncated-normal")
@dataclass(frozen=True)
class TruncatedNormal(Density):
    """A normal of the given mean and std conditioned on [low, high]: the default bell.

    ``mean`` and ``std`` are those of the normal before it is cut.
    """

    mean: float = 0.5
    std: float = 0.2
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        _require(0 <= self.low < self.high <= 1, f"{self}: need 0 <= low < high <= 1")
        _require(math.isfinite(self.mean), f"{self}: need a finite mean")
        _require(0 < self.std < math.inf, f"{self}: need std > 0, and finite")
        _require(self._mass() > 0, f"{self}: the normal has no mass between low and high")

    @property
    def support(self) -> tuple[float, float]:
        """``low`` and ``high``."""
        return self.low, self.high

    def _cuts(self) -> tuple[float, float, float]:
        """Standardised ends (a, b), and the sign that puts the interval in the lower tail.

        There the normal distribution function keeps its relative precision.
        """
        a, b = (self.low - self.mean) / self.std, (self.high - self.mean) / self.std
        return (-b, -a, -1.0) if a + b > 0 else (a, b, 1.0)

    def _mass(self) -> float:
        a, b, _ = self._cuts()
        return (math.erfc(-b / math.sqrt(2)) - math.erfc(-a / math.sqrt(2))) / 2

    def _draw(self, u: Tensor) -> Tensor:
        a, _, sign = self._cuts()
        below = math.erfc(-a / math.sqrt(2)) / 2
        v = u if sign > 0 else 1 - u
        z: Tensor = torch.special.ndtri(below + self._mass() * v)
        return self.mean + self.std * sign * z

    def _pdf(self, t: Tensor) -> Tensor:
        z = (t - self.mean) / self.std
        return torch.exp(-z * z / 2) / (_SQRT_TWO_PI * self.std * self._mass())


@register("logit-normal")
@dataclass(frozen=True)
class LogitNormal(Density):
    """logit(t) ~ N(loc, scale^2)."""

    loc: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        _require(math.isfinite(self.loc), f"{self}: need a finite loc")
        _require(0 < self.scale < math.inf, f"{self}: need scale > 0, and finite")

    def _draw(self, u: Tensor) -> Tensor:
        return torch.sigmoid(self.loc + self.scale * torch.special.ndtri(u))

    def _pdf(self, t: Tensor) -> Tensor:
        t = t.clamp(_SMALLEST_T, 1 - 2.0**-53)  # it vanishes at the ends, which t is rounded to
        z = (torch.logit(t) - self.loc) / self.scale
        return torch.exp(-z * z / 2) / (_SQRT_TWO_PI * self.scale * t * (1 - t))


@register("beta")
@dataclass(frozen=True)
class Beta(Density):
    """t ~ Beta(alpha, beta)."""

    alpha: float = 2.0
    beta: float = 2.0

    def __post_init__(self) -> None:
        positive = 0 < self.alpha < math.inf and 0 < self.beta < math.inf
        _require(positive, f"{self}: need alpha > 0 and beta > 0, and finite")

    def _pdf(self, t: Tensor) -> Tensor:
        a, b = t.new_tensor(self.alpha), t.new_tensor(self.beta)
        log_beta = (
            math.lgamma(self.alpha) + math.lgamma(self.beta) - math.lgamma(self.alpha + self.beta)
        )
        return torch.exp(torch.xlogy(a - 1, t) + torch.special.xlog1py(b - 1, -t) - log_beta)


@dataclass(frozen=True)
class Mirrored(TimeDistribution):
    """1 - t for t of another distribution: the rate of a mask's complement."""

    of: TimeDistribution

    @property
    def support(self) -> tuple[float, float]:
        """The other's, mirrored."""
        low, high = self.of.support
        return 1 - high, 1 - low

    def _draw(self, u: Tensor) -> Tensor:
        return 1 - self.of.draw(1 - u)

    def _pdf(self, t: Tensor) -> Tensor:
        return self.of.pdf(1 - t)


@dataclass(frozen=True)
class Mixture(TimeDistribution):
    """``share`` of the draws from ``first``, the others from ``second``.

    Draws with u below ``share`` are the first's: strata of u are strata of both parts. Rates do not
    rise with u, so there is no quantile.
    """

    first: TimeDistribution
    second: TimeDistribution
    share: float

    def __post_init__(self) -> None:
        _require(0 <= self.share <= 1, f"a mixture's share must be in [0, 1], not {self.share}")

    @property
    def support(self) -> tuple[float, float]:
        """From the lesser to the greater end."""
        ends = self.first.support, self.second.support
        return min(low for low, _ in ends), max(high for _, high in ends)

    def _draw(self, u: Tensor) -> Tensor:
        a = self.share
        first = self.first.draw((u / max(a, 1e-300)).clamp(0, 1))
        second = self.second.draw(((u - a) / max(1 - a, 1e-300)).clamp(0, 1))
        return torch.where(u < a, first, second)

    def _pdf(self, t: Tensor) -> Tensor:
        return self.share * self.first.pdf(t) + (1 - self.share) * self.second.pdf(t)


def stratified(n: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Draw n probabilities, exactly one in each stratum [k/n, (k+1)/n), in increasing order.

    Returns:
        (n,) float64: feed it to ``draw``.
    """
    return stratify(torch.arange(n), torch.rand(n, dtype=torch.float64, generator=generator), n)


def stratify(stratum: Tensor, offset: Tensor, n: int) -> Tensor:
    """Place offsets in [0, 1) into their strata: u = (stratum + offset) / n, never its upper end.

    Args:
        stratum: int64 in [0, n).
        offset: float64 in [0, 1), broadcastable.
    """
    upper = (stratum + 1).double() / n
    below_upper = torch.nextafter(upper, torch.zeros_like(upper))
    return torch.minimum((stratum + offset) / n, below_upper)


@lru_cache(maxsize=16)
def alternating_strata(n: int) -> Tensor:
    """Which of n strata each of n samples of a global batch gets, low and high ones alternating.

    A golden-ratio sequence, so that any run of consecutive samples (a rank's, a micro-batch's)
    spans the strata evenly. The data order is random, so which text gets which rate is too.

    Returns:
        (n,) int64, a permutation of 0..n-1.
    """
    golden = (math.sqrt(5) - 1) / 2
    return torch.argsort(torch.argsort((torch.arange(n, dtype=torch.float64) * golden) % 1))
