"""A share of the samples that moves with the progress of training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite

from unmask.base.errors import UserError

_FORM = (
    "a share such as 0.3, or shares at progress such as 1@0.2/0@0.2 (1 until 0.2, then 0), or at "
    "steps such as 1@400steps/0@400steps"
)
_STEPS = "steps"


@dataclass(frozen=True)
class Share:
    """A piecewise linear function of the progress of training, step / steps, or of the step.

    Constant before its first point and after its last; two points at one progress are a jump.

    Attributes:
        points: (share, place) of each, both in [0, 1], places non-decreasing.
        in_steps: whether places are steps, whole numbers of any size, and not progress.

    Raises:
        UserError: a number out of its range, no points, or places that fall.
    """

    points: tuple[tuple[float, float], ...]
    in_steps: bool = False

    def __post_init__(self) -> None:
        inside = all(0 <= share <= 1 for share, _ in self.points)
        inside = inside and all(at >= 0 and (self.in_steps or at <= 1) for _, at in self.points)
        if not self.points or not inside:
            raise UserError(f"shares and progress must be in [0, 1], not {self}; write {_FORM}")
        if any(a > b for (_, a), (_, b) in pairwise(self.points)):
            what = "steps" if self.in_steps else "progress"
            raise UserError(f"{what} must not fall from one point to the next, as in {self}")
        object.__setattr__(self, "points", _fewest(self.points))
        if len(self.points) == 1:
            object.__setattr__(self, "in_steps", False)

    @classmethod
    def parse(cls, text: str) -> "Share":
        """Read ``0.3``, or ``share@progress`` points joined by ``/``: ``1@0/0.1@0.6``.

        Or ``share@steps``: ``1@400steps/0@400steps``.

        Raises:
            UserError: it is not of that form, or a number is out of its range.
        """
        points, units = [], set()
        for part in text.split("/"):
            share, at, place = part.partition("@")
            in_steps = place.endswith(_STEPS)
            units.add(in_steps)
            number = place.removesuffix(_STEPS)
            try:
                if in_steps and not (number.isascii() and number.isdecimal()):
                    raise ValueError
                points.append((float(share), float(number) if at else 0.0))
            except ValueError:
                raise UserError(f"{text!r} is not {_FORM}") from None
            if not at and "/" in text:
                raise UserError(f"{text!r}: {part!r} has no @progress; write {_FORM}")
        if len(units) > 1:
            raise UserError(f"{text!r} has points at progress and at steps; write {_FORM}")
        return cls(tuple(points), units.pop())

    def __str__(self) -> str:
        """As `parse` reads it; a constant as its number."""
        if len(self.points) == 1:
            return _number(self.points[0][0])
        unit = _STEPS if self.in_steps else ""
        return "/".join(f"{_number(share)}@{_number(at)}{unit}" for share, at in self.points)

    def at(self, step: int, steps: int) -> float:
        """The share at a step (counted from 0) of so many."""
        unit = 1 if self.in_steps else steps
        return _interpolate([(share, at * unit) for share, at in self.points], step, after=True)

    def limits(self, place: float) -> tuple[float, float]:
        """The shares just before and just after a place."""
        before, after = (_interpolate(self.points, place, after=a) for a in (False, True))
        return before, after

    @property
    def whole(self) -> bool:
        """Whether it is 0 or 1 at every progress."""
        jumps = all(a == b or p == q for (a, p), (b, q) in pairwise(self.points))
        return jumps and all(share in (0, 1) for share, _ in self.points)


def check_sum(shares: Mapping[str, Share], recipe: str) -> None:
    """Make sure that shares leave no less than nothing to what has the rest.

    Where those at progress and those at steps meet depends on the run; there the first named have
    what they ask for.

    Raises:
        UserError: somewhere those at progress, or those at steps, add up to more than 1.
    """
    for in_steps in (False, True):
        some = [s for s in shares.values() if s.in_steps is in_steps or len(s.points) == 1]
        places = {0.0, *(at for share in some for _, at in share.points)} if some else ()
        for place in sorted(places):
            before, after = map(sum, zip(*(s.limits(place) for s in some), strict=True))
            if max(before, after) > 1 + 1e-9:
                raise UserError(
                    f"recipe {recipe!r}: the shares of {', '.join(shares)} add up to "
                    f"{max(before, after):g} at {'step' if in_steps else 'progress'} {place:g}; at "
                    "most 1"
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
