"""The curves c(t) split into what the best model ever measured still has, and the rest.

c(t) = c*(t) + reducible(t), with c* the data's conditional entropy at mask rate t. c* is not known,
but no model is below it, so the lowest c(t) ever measured, bin by bin, bounds it from above; what a
model has above that lowest curve bounds its reducible error from below.
"""

from collections.abc import Sequence

Curve = Sequence[float]


def lowest_curve(curves: Sequence[Curve]) -> list[float]:
    """The least value in each bin over curves of equally many bins (nats per masked token)."""
    return [min(values) for values in zip(*curves, strict=True)]


def reducible(curve: Curve, lowest: Curve) -> list[float]:
    """What a curve has above the lowest one, bin by bin: at least 0 where it is among those."""
    return [value - least for value, least in zip(curve, lowest, strict=True)]


def area(curve: Curve) -> float:
    """Integral over t in (0, 1) of a curve given by its means in equal bins: of c(t), the NELBO."""
    return sum(curve) / len(curve)


def shares(curve: Curve) -> list[float] | None:
    """The part of a curve's area that lies in each bin; None where there is no area."""
    total = sum(curve)
    return [value / total for value in curve] if total > 0 else None


def heaviest_range(parts: Curve, least: float) -> tuple[int, int]:
    """The shortest run of bins that together hold at least a part of the whole.

    Args:
        parts: non-negative, summing to 1.
        least: in (0, 1].

    Returns:
        First and last bin; of several equally short runs the one that holds most.
    """
    n = len(parts)
    for length in range(1, n + 1):
        sums = [sum(parts[start : start + length]) for start in range(n - length + 1)]
        if max(sums) >= least - 1e-12:
            start = sums.index(max(sums))
            return start, start + length - 1
    return 0, n - 1
