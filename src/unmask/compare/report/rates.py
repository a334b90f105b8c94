"""Plots over the mask rate t: what is hard at which rate, and which rates a recipe draws."""

import math

import numpy as np

from unmask.compare.records import Arm, Comparison
from unmask.compare.report.curves import Array
from unmask.plot.figure import Plot
from unmask.plot.style import colour, figure, fold, legend, line_of, marker_of

_MOMENTS = (0.1, 0.25, 0.5, 1.0)  # of the training
_MASK_RATE = "mask rate t"


def cross_entropies(comparison: Comparison) -> Plot | None:
    """c(t) of every arm at some moments of training, a panel for each moment."""
    arms = [arm for arm in comparison.arms if _curves(arm)]
    moments = _moments(arms)
    if not moments:
        return None
    drawing = figure(2.9)
    panels = drawing.subplots(1, len(moments), sharey=True, squeeze=False)[0]
    for axes, moment in zip(panels, moments, strict=True):
        for arm in arms:
            values = _at(arm, moment)
            if values is not None:
                t = (np.arange(len(values)) + 0.5) / len(values)
                axes.plot(t, values, marker=marker_of(arm), markersize=3.5, **line_of(arm))
        axes.set_title(f"step {moment:,}")
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes.set_xlabel(_MASK_RATE)
    panels[0].set_ylabel("c(t) (nats per masked token)")
    legend(drawing, arms)
    caption = (
        "Mean cross-entropy per masked token of the validation blocks, in 10 bins of the mask "
        "rate, at about 10, 25, 50 and 100% of the training; mean over the seeds that are done. "
        "The area under a curve is the NELBO."
    )
    if any(arm.causal for arm in comparison.arms):
        caption += " An autoregressive twin masks nothing and has no such curve."
    return Plot("cross_entropy", "Cross-entropy by mask rate", caption, drawing)


def densities(comparison: Comparison) -> Plot | None:
    """The density that each arm draws mask rates from, over the histogram of what was drawn."""
    arms = [(arm, arm.times) for arm in comparison.arms if arm.times]
    if not arms:
        return None
    columns = min(3, len(arms))
    rows = math.ceil(len(arms) / columns)
    drawing = figure(0.5 + 1.9 * rows)
    peaks = [max(times["density"] + times["histogram"]) for _, times in arms]
    shared = max(peaks) <= 4 * min(peaks)
    grid = drawing.subplots(rows, columns, squeeze=False)
    for number, axes in enumerate(grid.flat):
        if number >= len(arms):
            axes.set_axis_off()
            continue
        arm, times = arms[number]
        shade = {"color": colour(arm.index), "alpha": 0.28, "linewidth": 0}
        edges = np.linspace(0, 1, len(times["histogram"]) + 1)
        axes.stairs(times["histogram"], edges, fill=True, **shade)
        axes.plot(times["t"], times["density"], color=colour(arm.index))
        axes.set_title(fold(arm.name, 36), fontsize=8.5)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.08 * (max(peaks) if shared else peaks[number]))
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
        if number // columns == (len(arms) - 1 - number % columns) // columns:
            axes.set_xlabel(_MASK_RATE)
        if number % columns == 0:
            axes.set_ylabel("density")
    caption = (
        "Line: the density that a recipe draws mask rates from, over the whole training. Bars: the "
        "rates that its first run drew."
    )
    if not shared:
        caption += " The panels have different scales."
    if any(arm.causal for arm in comparison.arms):
        caption += " An autoregressive twin draws none."
    if any("fit=" in arm.spec and "fit=none" not in arm.spec for arm in comparison.arms):
        caption += " Recipes that fit their rates while training are left out: rate_mean and "
        caption += "rate_std in their metrics.jsonl tell what they drew."
    return Plot("mask_rates", "Mask rates drawn", caption, drawing)


def _curves(arm: Arm) -> list[tuple[list[int], Array]]:
    """For each finished run: the steps of its evaluations that have c(t), and the values."""
    curves = []
    for run in arm.done:
        records = [r for r in run.evals if r["step"] > 0 and _whole(r.get("c_t"))]
        records = [r for r in records if len(r["c_t"]) == len(records[0]["c_t"])]
        if records:
            values = np.array([r["c_t"] for r in records], dtype=float)
            curves.append(([r["step"] for r in records], values))
    return curves


def _whole(values: object) -> bool:
    return (
        isinstance(values, list)
        and bool(values)
        and all(isinstance(v, int | float) and math.isfinite(v) for v in values)
    )


def _moments(arms: list[Arm]) -> list[int]:
    """Evaluations of one run that lie nearest to the moments; after the first one, step 0."""
    runs = [steps for arm in arms for steps, _ in _curves(arm)]
    if not runs:
        return []
    steps = max(runs, key=lambda run: run[-1])
    nearest = {min(steps, key=lambda s: abs(s - part * steps[-1])) for part in _MOMENTS}
    return sorted(nearest)


def _at(arm: Arm, step: int) -> Array | None:
    """c(t) of an arm at a step, mean over its runs, between two evaluations interpolated.

    None where a run does not go that far, or begins later.
    """
    found = []
    for steps, values in _curves(arm):
        if steps[0] <= step <= steps[-1]:
            found.append([np.interp(step, steps, column) for column in values.T])
    return np.array(found).mean(0) if found else None
