"""How much sooner one learning curve reaches a level than another, with an interval over seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from scipy.special import betaincinv


@dataclass(frozen=True)
class Curve:
    """The validation bound of one run over training.

    Attributes:
        steps: optimiser steps at the evaluations, increasing from 0.
        seconds: training seconds at the same points.
        nelbo: nats per token there.
        flops: floating-point operations of the steps up to there; None if they were not counted.
    """

    steps: Sequence[float]
    seconds: Sequence[float]
    nelbo: Sequence[float]
    flops: Sequence[float] | None = None


@dataclass(frozen=True)
class Spread:
    """A quantity over seeds.

    Attributes:
        values: of each seed; None where it has none, such as a level that is not reached.
        mean: arithmetic, or geometric of ratios; None if a seed has no value: leaving that seed
            out would flatter.
        low, high: 95% interval (Student's t; of ratios on the logarithm); None with fewer than two
            seeds.
    """

    values: list[float | None]
    mean: float | None
    low: float | None
    high: float | None

    @property
    def known(self) -> int:
        """How many seeds have a value."""
        return sum(value is not None for value in self.values)


def envelope(values: Sequence[float]) -> list[float]:
    """The lowest value so far, at each point."""
    lowest, best = [], math.inf
    for value in values:
        best = min(best, value)
        lowest.append(best)
    return lowest


def first_reach(x: Sequence[float], nelbo: Sequence[float], level: float) -> float | None:
    """Where a curve's monotone envelope first comes down to a level, by linear interpolation.

    Args:
        x: steps, seconds or FLOPs of the evaluations, increasing.
        nelbo: the bound there.
        level: nats per token.

    Returns:
        The crossing point; None if the level is never reached (nothing is extrapolated).
    """
    lowest = envelope(nelbo)
    if lowest[0] <= level:
        return float(x[0])
    for (x0, y0), (x1, y1) in pairwise(zip(x, lowest, strict=True)):
        if y1 <= level:
            return x0 + (x1 - x0) * (y0 - level) / (y0 - y1)
    return None


def level_at(curve: Curve, percent: float) -> float:
    """The envelope's value at a percentage of a run's steps, by linear interpolation."""
    where = curve.steps[-1] * percent / 100
    lowest = envelope(curve.nelbo)
    for (x0, y0), (x1, y1) in pairwise(zip(curve.steps, lowest, strict=True)):
        if where <= x1:
            return y0 + (y1 - y0) * (where - x0) / (x1 - x0)
    return lowest[-1]


def speed_up(
    baseline: Sequence[Curve], other: Sequence[Curve], percent: float
) -> tuple[float, dict[str, Spread]]:
    """Speed-up of one recipe over another at a level, seed by seed.

    For each seed the level is what its baseline run has at ``percent`` of its steps; the ratio is
    when the baseline first reaches it over when the other does.

    Args:
        baseline, other: a curve for each seed, in the same order.
        percent: in (0, 100].

    Returns:
        The level (nats per token, mean over seeds), and the ratio in ``steps``, in ``seconds`` and,
        where all curves have them, in ``flops``.
    """
    levels = [level_at(curve, percent) for curve in baseline]
    spreads = {}
    for axis in ("steps", "seconds", "flops"):
        if any(getattr(curve, axis) is None for curve in (*baseline, *other)):
            continue
        ratios: list[float | None] = []
        for a, b, level in zip(baseline, other, levels, strict=True):
            slow = first_reach(getattr(a, axis), a.nelbo, level)
            fast = first_reach(getattr(b, axis), b.nelbo, level)
            ratios.append(slow / fast if slow and fast else None)
        spreads[axis] = ratio_spread(ratios)
    return sum(levels) / len(levels), spreads


def spread(values: Sequence[float]) -> Spread:
    """Values over seeds with their mean and its interval."""
    n, mean = len(values), sum(values) / len(values)
    if n < 2:
        return Spread(list(values), mean, None, None)
    variance = sum((v - mean) ** 2 for v in values) / (n - 1)
    half = student_t(n - 1) * math.sqrt(variance / n)
    return Spread(list(values), mean, mean - half, mean + half)


def ratio_spread(ratios: Sequence[float | None]) -> Spread:
    """Positive ratios over seeds with their geometric mean and its interval."""
    logs = [math.log(ratio) for ratio in ratios if ratio is not None]
    if len(logs) < len(ratios):
        return Spread(list(ratios), None, None, None)
    found = spread(logs)
    mean, low, high = (
        None if x is None else math.exp(x) for x in (found.mean, found.low, found.high)
    )
    return Spread(list(ratios), mean, low, high)


def student_t(degrees: int, confidence: float = 0.95) -> float:
    """Two-sided quantile of Student's t: |T| is below it with the given confidence.

    By T^2 / (degrees + T^2) ~ Beta(1/2, degrees / 2).
    """
    x = float(betaincinv(0.5, degrees / 2, confidence))
    return math.sqrt(degrees * x / (1 - x))


def paired_difference(
    nats_a: Sequence[float], nats_b: Sequence[float], tokens: Sequence[int]
) -> tuple[float, float]:
    """Difference a - b of two bounds on the same blocks and noise, and its standard error.

    Args:
        nats_a, nats_b: the bound of each block, in nats.
        tokens: tokens of each block.

    Returns:
        Nats per token; the error is over blocks, and small because the blocks are shared.
    """
    n, total = len(tokens), sum(tokens)
    differences = [a - b for a, b in zip(nats_a, nats_b, strict=True)]
    value = sum(differences) / total
    residuals = [d - value * k for d, k in zip(differences, tokens, strict=True)]
    variance = sum(r * r for r in residuals) / (n - 1)
    return value, math.sqrt(variance * n) / total
