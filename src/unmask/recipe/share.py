"""A share of the samples that moves with the progress of training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite

from unmask.base.errors import UserError

_FORM = "a share such as 0.3, or shares at progress such as 1@0.2/0@0.2 (1 until 0.2, then 0)"


@dataclass(frozen=True)
class Share:
    """A piecewise linear function of the progress of training, step / steps in [0, 1).

    Constant before its first point and after its last; two points at one progress are a jump.

    Attributes:
        points: (share, progress) of each, both in [0, 1], progress non-decreasing.

    Raises:
        UserError: a number out of its range, no points, or progress that falls.
    """

    points: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        inside = all(0 <= number <= 1 for point in self.points for number in point)
        if not self.points or not inside:
            raise UserError(f"shares and progress must be in [0, 1], not {self}; write {_FORM}")
        if any(a > b for (_, a), (_, b) in pairwise(self.points)):
            raise UserError(f"progress must not fall from one point to the next, as in {self}")
        object.__setattr__(self, "points", _fewest(self.points))

    @classmethod
    def parse(cls, text: str) -> "Share":
        """Read ``0.3``, or ``share@progress`` points joined by ``/``: ``1@0/0.1@0.6``.

        Raises:
            UserError: it is not of that form, or a number is out of its range.
        """
        points = []
        for part in text.split("/"):
            share, at, progress = part.partition("@")
            try:
                points.append((float(share), float(progress) if at else 0.0))
            except ValueError:
                raise UserError(f"{text!r} is not {_FORM}") from None
            if not at and "/" in text:
                raise UserError(f"{text!r}: {part!r} has no @progress; write {_FORM}")
        return cls(tuple(points))

    def __str__(self) -> str:
        """As `parse` reads it; a constant as its number."""
        if len(self.points) == 1:
            return _number(self.points[0][0])
        return "/".join(f"{_number(share)}@{_number(at)}" for share, at in self.points)

    def at(self, step: int, steps: int) -> float:
        """The share at a step (counted from 0) of so many."""
        return _interpolate([(share, at * steps) for share, at in self.points], step, after=True)

    def limits(self, progress: float) -> tuple[float, float]:
        """The shares just before and just after a progress."""
        before, after = (_interpolate(self.points, progress, after=a) for a in (False, True))
        return before, after

    @property
    def whole(self) -> bool:
        """Whether it is 0 or 1 at every progress."""
        jumps = all(a == b or p == q for (a, p), (b, q) in pairwise(self.points))
        return jumps and all(share in (0, 1) for share, _ in self.points)


def check_sum(shares: Mapping[str, Share], recipe: str) -> None:
    """Make sure that shares leave no less than nothing to what has the rest.

    Raises:
        UserError: somewhere they add up to more than 1.
    """
    places = {0.0, *(at for share in shares.values() for _, at in share.points)}
    for progress in sorted(places):
        before, after = map(sum, zip(*(s.limits(progress) for s in shares.values()), strict=True))
        if max(before, after) > 1 + 1e-9:
            raise UserError(
                f"recipe {recipe!r}: the shares of {', '.join(shares)} add up to "
                f"{max(before, after):g} at progress {progress:g}; at most 1"
            )


def _interpolate(points: Sequence[tuple[float, float]], place: float, *, after: bool) -> float:
    """The value at a place of points (value, place); just after it or, if not, just before."""
    n = sum(at < place or (after and at == place) for _, at in points)
    if n in (0, len(points)):
        return points[min(n, len(points) - 1)][0]
    (low, start), (high, end) = points[n - 1], points[n]
    return low + (high - low) * (place - start) / (end - start)


def _fewest(points: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    """The same function without points that change nothing."""
    kept = list(points)
    for i in reversed(range(1, len(kept) - 1)):
        (a, p), (b, q), (c, r) = kept[i - 1 : i + 2]
        if p == q == r or a == b == c:
            del kept[i]
    if len(kept) > 1 and kept[0][0] == kept[1][0]:
        del kept[0]
    if len(kept) > 1 and kept[-1][0] == kept[-2][0]:
        del kept[-1]
    return tuple(kept) if len(kept) > 1 else ((kept[0][0], 0.0),)


def _number(value: float) -> str:
    return str(int(value)) if isfinite(value) and value == int(value) else str(value)
