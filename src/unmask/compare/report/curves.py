"""Plots over training: the validation bound against steps and seconds, loss and gradient norm."""

from collections.abc import Callable, Sequence
from operator import attrgetter

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from unmask.compare.records import Arm, Comparison, Level, Record, RunRecord
from unmask.plot.figure import Plot
from unmask.plot.key import Entry
from unmask.plot.style import (
    GREY,
    STEPS,
    Array,
    draw_mean,
    figure,
    label_axes,
    limit,
    line_of,
    panels,
)

SECONDS = "training seconds (evaluation left out)"
FLOPS = "floating-point operations of training"
_POINTS = 200  # of a common grid
_STRETCHES = 60  # that a long run's noisy training signals are averaged in


def bound_against_steps(comparison: Comparison) -> Plot | None:
    """The validation bound over optimiser steps."""
    return _bound(comparison, "step", "nelbo_steps", "NELBO against steps", STEPS)


def bound_against_seconds(comparison: Comparison) -> Plot | None:
    """The validation bound over the time spent in training."""
    return _bound(comparison, "seconds", "nelbo_seconds", "NELBO against seconds", SECONDS)


def bound_against_flops(comparison: Comparison) -> Plot | None:
    """The validation bound over the FLOPs of training, where all runs counted them."""
    runs = [run for arm in comparison.arms for run in arm.runs if run.evals]
    if not runs or any(run.curve.flops is None for run in runs):
        return None
    return _bound(comparison, "flops", "nelbo_flops", "NELBO against FLOPs", FLOPS)


def training_signals(comparison: Comparison) -> Plot | None:
    """Loss and gradient norm of the training lines."""
    if not any(run.trains for arm in comparison.arms for run in arm.runs):
        return None
    drawing, (left, right) = panels(2, 2, 2.9)
    shown: list[Arm] = []
    for axes, key, label in (
        (left, "loss", "training loss (nats, weighted)"),
        (right, "grad_norm", "gradient norm"),
    ):
        for arm in comparison.arms:
            if (
                draw_arm(axes, arm, attrgetter("trains"), "step", key, _STRETCHES)
                and arm not in shown
            ):
                shown.append(arm)
        limit(axes, [v for line in axes.lines for v in _late(line)], margin=0.05)
        label_axes(axes, STEPS, label)
    caption = (
        "Each recipe's own training loss weighs mask rates in its own way, so one "
        "recipe's curve cannot be compared with another's; it shows whether training was smooth. "
        f"The norm of the gradient is that before clipping. {seeds_sentence(comparison)} Runs are "
        f"averaged in at most {_STRETCHES} stretches; the first 2% of the steps may lie outside."
    )
    shown.sort(key=lambda arm: arm.index)
    title = "Training loss and gradient norm"
    return Plot("training", title, caption, drawing, shown, _unfinished(comparison))


def seeds_sentence(comparison: Comparison) -> str:
    """What lines and bands stand for."""
    if len(comparison.seeds) == 1:
        return "One seed."
    return "Lines: mean over seeds; bands: lowest to highest seed."


def _bound(comparison: Comparison, x: str, name: str, title: str, xlabel: str) -> Plot | None:
    drawing = figure(3.9)
    axes = drawing.subplots()
    shown = [arm for arm in comparison.arms if draw_arm(axes, arm, attrgetter("evals"), x, "nelbo")]
    if not shown:
        return None
    levels = [] if comparison.baseline not in shown else comparison.baseline.result.levels
    values = [v for arm in shown for run in arm.done or arm.runs for v in _settled(run)]
    first = max((r["nelbo"] for arm in shown for run in arm.runs for r in run.evals), default=0)
    limit(axes, values + [level.nelbo for level in levels], margin=0.04)
    _levels(axes, levels)
    label_axes(axes, xlabel, "NELBO (nats per token)")
    blocks = "" if comparison.blocks == "all" else f" on the {comparison.blocks} blocks"
    caption = f"Validation bound{blocks}, lower is better. {seeds_sentence(comparison)} "
    if x != "step" and len(comparison.seeds) > 1:
        caption += "Runs are interpolated to common points, as far as every seed of a recipe goes. "
    if levels:
        caption += (
            f"Faint lines: where {comparison.baseline.name} is at 25, 50, 75 and 100% of its "
            "steps; a recipe's speed-up is how much sooner its curve crosses such a line. "
        )
    if first > axes.get_ylim()[1]:
        caption += (
            f"The first evaluations, up to {first:.2f} nats, lie above the plot: its top is the "
            "highest curve after 2% of the training. "
        )
    if _unfinished(comparison):
        caption += "Thin lines that end in a cross: runs that are not done. "
    return Plot(name, title, caption.strip(), drawing, shown, _unfinished(comparison))


def draw_arm(
    axes: Axes,
    arm: Arm,
    records: Callable[[RunRecord], list[Record]],
    x: str,
    y: str,
    most: int = 2 * _POINTS,
) -> bool:
    """Draw an arm: mean and band of its finished runs, and each other run as a thin line.

    Args:
        axes: to draw in.
        arm: what is drawn.
        records: which of a run's records.
        x, y: their keys.
        most: points of a curve; a longer one is averaged in stretches.

    Returns:
        Whether there was anything to draw.
    """
    curves: list[Array] = []
    rest: list[Array] = []
    for run in arm.runs:
        points = [(r[x], r[y]) for r in records(run) if _is_number(r.get(x), r.get(y))]
        if points:
            curve = _shortened(np.array(points, dtype=float).T, most)
            (curves if run.done else rest).append(curve)
    if curves:
        grid, values = _together(curves)
        # Markers apart from the other arms'.
        more = {"markevery": (0.02 * (arm.index % 5), 0.1), "zorder": 3 if arm.index else 3.5}
        draw_mean(axes, arm, grid, values, **more)
    for grid, value in rest:
        axes.plot(grid, value, **line_of(arm, marker="", linewidth=0.9, alpha=0.8))
        cross = line_of(arm, marker="x", linestyle="", markersize=7, zorder=4)
        axes.plot(grid[-1:], value[-1:], **cross)
    return bool(curves or rest)


def _together(curves: Sequence[Array]) -> tuple[Array, Array]:
    """Curves on one grid: their own points where these agree, otherwise interpolated.

    The grid goes as far as all of them do, so that the mean never changes what it is a mean of.
    """
    if all(np.array_equal(curve[0], curves[0][0]) for curve in curves):
        grid, values = curves[0][0], np.stack([curve[1] for curve in curves])
    else:
        start, end = max(c[0, 0] for c in curves), min(c[0, -1] for c in curves)
        grid = np.linspace(start, end, _POINTS)
        values = np.stack([np.interp(grid, *curve) for curve in curves])
    return grid, values


def _shortened(curve: Array, most: int) -> Array:
    """A curve of at most that many points: a longer one is averaged in equal stretches."""
    if curve.shape[1] <= most:
        return curve
    parts = np.array_split(curve, most, axis=1)
    return np.stack([part.mean(1) for part in parts], axis=1)


def _settled(run: RunRecord) -> list[float]:
    """The bounds of a run but for the first evaluation and those in its first 2% of steps."""
    after = 0.02 * run.last_step
    values = [float(r["nelbo"]) for r in run.evals[1:] if r["step"] >= after]
    values = values or [float(r["nelbo"]) for r in run.evals]
    # Where a run diverged, its climb shall not press the rest down.
    return values if run.done else [value for value in values if value <= values[0]]


def _late(line: Line2D) -> list[float]:
    """A line's heights but for its first 2%."""
    x, y = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
    return [float(v) for v in y[x >= 0.02 * x.max(initial=0)]]


def _levels(axes: Axes, levels: list[Level]) -> None:
    """The baseline's levels as faint lines, named to the right of the axes."""
    low, high = axes.get_ylim()
    last = -1.0
    for level in sorted(levels, key=lambda level: level.nelbo):
        height = (level.nelbo - low) / (high - low)
        last = max(height, last + 0.05)  # names are pushed up off each other, lines are not
        axes.axhline(level.nelbo, color=GREY, linewidth=0.7, alpha=0.6, zorder=1)
        axes.annotate(
            f"{level.percent}%: {level.nelbo:.3f}",
            (1, height),
            xytext=(1.012, last),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            fontsize=8,
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.5},
        )


def _unfinished(comparison: Comparison) -> list[Entry]:
    """A legend entry for the runs that are drawn though they are not done."""
    runs = [run for arm in comparison.arms for run in arm.runs]
    if not any(run.evals and not run.done for run in runs):
        return []
    cross = Line2D([], [], color=GREY, linewidth=0.9, marker="x", markersize=7)
    return [(cross, "a run that is not done, up to where it ended")]


def _is_number(*values: object) -> bool:
    return all(isinstance(v, int | float) and np.isfinite(v) for v in values)
