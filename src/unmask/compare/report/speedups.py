"""The plot of the speed-ups against the level they are measured at."""

import math

from matplotlib.axes import Axes

from unmask.compare.records import Arm, Comparison
from unmask.compare.statistics import Spread
from unmask.plot.figure import Plot
from unmask.plot.style import GREY, label_rows, line_of, log_axis, not_reached, panels

_SPREAD = 10.0  # percentage points that the arms of one level are spread over


def speed_ups(comparison: Comparison) -> Plot | None:
    """Speed-up over the baseline at its levels, in steps and in seconds."""
    arms = [arm for arm in comparison.arms[1:] if arm.result.levels]
    if not arms:
        return None
    drawing, every = panels(2, 2, 3.1)
    cut = missing = False
    for axes, unit, title in zip(
        every, ("steps", "seconds"), ("in optimiser steps", "in training seconds"), strict=True
    ):
        cut |= _limits(axes, arms, unit)
        for number, arm in enumerate(arms):
            missing |= _draw(axes, arm, unit, _SPREAD * ((number + 0.5) / len(arms) - 0.5))
        axes.axhline(1, color=GREY, linewidth=0.9, zorder=1)
        axes.set_title(title)
        axes.set_xlim(25 - _SPREAD, 100 + _SPREAD)
        axes.set_xticks([25, 50, 75, 100], ["25%", "50%", "75%", "100%"])
        axes.set_xlabel("level: NELBO of the baseline at ... of its steps")
    label_rows(every, "speed-up (times, log scale)")
    caption = (
        f"How many times sooner than {comparison.baseline.name} a recipe reaches the NELBO that "
        f"{comparison.baseline.name} has at 25, 50, 75 and 100% of its steps; above the line at "
        "1× is sooner. "
    )
    if len(comparison.seeds) > 1:
        caption += "Points: geometric mean over seeds; bars: 95% interval over seeds. "
    else:
        caption += "One seed: there is no interval. "
    if cut:
        caption += "Intervals that leave the plot go on outside it; the table has their ends. "
    if missing:
        caption += "A cross at the lower edge: some seed does not reach the level. "
    extra = not_reached() if missing else []
    return Plot("speed_up", "Speed-up against level", caption.strip(), drawing, arms, extra)


def _draw(axes: Axes, arm: Arm, unit: str, shift: float) -> bool:
    """Draw an arm's speed-ups, a little to the side so that the bars of arms stand apart.

    Returns:
        Whether a level is not reached.
    """
    levels = _ratios(arm, unit)
    reached = [(percent + shift, ratio) for percent, ratio in levels if ratio.mean is not None]
    x, y = [where for where, _ in reached], [ratio.mean for _, ratio in reached]
    look = line_of(arm)
    axes.plot(x, y, **{**look, "zorder": 3})  # type: ignore[arg-type]
    for where, ratio in reached:
        if ratio.low is not None and ratio.high is not None:
            bar = {"color": look["color"], "gid": f"{look['gid']}-band", "linewidth": 1.1}
            axes.vlines(where, ratio.low, ratio.high, **bar)
    beyond = [percent + shift for percent, ratio in levels if ratio.mean is None]
    heights = [0.025] * len(beyond)
    cross = {"marker": "x", "markersize": 6, "linestyle": ""}
    axes.plot(beyond, heights, transform=axes.get_xaxis_transform(), **{**look, **cross})
    return bool(beyond)


def _ratios(arm: Arm, unit: str) -> list[tuple[int, Spread]]:
    """Percent and speed-up at each level, in ``steps`` or ``seconds``."""
    return [(level.percent, getattr(level, unit)) for level in arm.result.levels]


def _limits(axes: Axes, arms: list[Arm], unit: str) -> bool:
    """A log scale that shows all points and the line at 1, and intervals as far as is sensible.

    Two seeds can give an interval over many powers of ten, which would squash the points.

    Returns:
        Whether an interval is cut.
    """
    ratios = [ratio for arm in arms for _, ratio in _ratios(arm, unit)]
    points = [1.0] + [ratio.mean for ratio in ratios if ratio.mean is not None]
    ends = [end for ratio in ratios for end in (ratio.low, ratio.high) if end is not None]
    least, most = min(points) / 2, max(points) * 2
    low = max(least, min(points + ends)) / 1.12
    high = min(most, max(points + ends)) * 1.12
    low /= (high / low) ** 0.06  # room for the crosses at the lower edge
    log_axis(axes, low, high, "{x:g}×")
    return any(end < low or end > high for end in ends if math.isfinite(end))
