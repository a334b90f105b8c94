"""Plots of what is left to learn, over the mask rate t."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from unmask.analyze.learnability.gradient_plots import gradient_plots
from unmask.analyze.learnability.transfer_plots import transfer_plots
from unmask.plot.figure import Plot
from unmask.plot.style import Key, colour, figure, fold, legend, line_of, marker_of

Record = dict[str, Any]

GREY = "#8a8f99"
_MOMENTS = (0.1, 0.25, 0.5, 1.0)  # of the training


def all_plots(record: Record) -> list[Plot]:
    """Every plot of the record, in the page's order."""
    curves = record["curves"]
    return [
        _curves(curves),
        _reducible(curves),
        _remaining(curves),
        *gradient_plots(record["gradients"]),
        *transfer_plots(record["transfer"], record["budget"]),
    ]


def mask_rate_axis(axes: Axes) -> None:
    """The axis of the mask rate."""
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_xlabel("mask rate t")


def _moments(curves: Record) -> list[int]:
    """Steps near some parts of the longest training, 0 left out where there are others."""
    steps = max((r["steps"] for r in curves["recipes"]), key=lambda steps: steps[-1])
    later = [step for step in steps if step > 0] or steps
    return sorted({min(later, key=lambda s: abs(s - part * steps[-1])) for part in _MOMENTS})


def _panels(curves: Record, key: str, label: str, shade: bool) -> Any:
    moments = _moments(curves)
    drawing = figure(2.9)
    panels = drawing.subplots(1, len(moments), sharey=True, squeeze=False)[0]
    shown = []
    for axes, moment in zip(panels, moments, strict=True):
        if shade:
            edges = np.linspace(0, 1, len(curves["lowest"]) + 1)
            axes.stairs(curves["lowest"], edges, fill=True, color=GREY, alpha=0.35, linewidth=0)
        for recipe in curves["recipes"]:
            if moment in recipe["steps"]:
                arm = Key(recipe["name"], recipe["index"])
                values = recipe[key][recipe["steps"].index(moment)]
                axes.plot(curves["t"], values, marker=marker_of(arm), markersize=3.5,
                          **line_of(arm))  # fmt: skip
                shown += [] if arm in shown else [arm]
        axes.set_title(f"step {moment:,}")
        axes.set_ylim(bottom=0)
        mask_rate_axis(axes)
    panels[0].set_ylabel(label)
    extra = [(Patch(color=GREY, alpha=0.35, linewidth=0), "the lowest c(t) measured")]
    legend(drawing, sorted(shown, key=lambda arm: arm.index), extra if shade else [])
    return drawing


def _curves(curves: Record) -> Plot:
    drawing = _panels(curves, "c_t", "c(t) (nats per masked token)", shade=True)
    caption = (
        "Mean cross-entropy per masked token on the validation blocks; mean over seeds. Grey: the "
        "lowest that any recipe, seed and step of the comparison had in each bin, an upper bound "
        "on the part that no model can learn. A curve's area is its NELBO."
    )
    return Plot("curves", "Cross-entropy by mask rate", caption, drawing)


def _reducible(curves: Record) -> Plot:
    drawing = _panels(curves, "reducible", "reducible, at least (nats)", shade=False)
    caption = (
        "The same curves above the grey area: what was still to be learnt, at least, at each mask "
        "rate and step."
    )
    return Plot("reducible", "Reducible error by mask rate", caption, drawing)


def _remaining(curves: Record) -> Plot:
    """Where the NELBO of each recipe sits at its last step."""
    recipes = curves["recipes"]
    columns = min(3, len(recipes))
    rows = -(-len(recipes) // columns)
    drawing = figure(0.3 + 2.1 * rows)
    grid = drawing.subplots(rows, columns, squeeze=False, sharey=True)
    n = len(curves["t"])
    lowest = np.array(curves["lowest"]) / n
    tallest = max(max(recipe["c_t"][-1]) for recipe in recipes) / n
    for axes, recipe in zip(grid.flat, recipes, strict=False):
        left = np.array(recipe["reducible"][-1]) / n
        axes.bar(curves["t"], lowest, width=0.86 / n, color=GREY, alpha=0.45)
        shade = colour(recipe["index"])
        axes.bar(curves["t"], left, width=0.86 / n, bottom=lowest, color=shade)
        for t, top, part in zip(curves["t"], lowest + left, recipe["nelbo_share"][-1], strict=True):
            axes.annotate(f"{part:.0%}", (t, top), xytext=(0, 2), textcoords="offset points",
                          ha="center", fontsize=6.5)  # fmt: skip
        name = fold(recipe["name"], 36)
        axes.set_title(f"{name}\n{recipe['nelbo'][-1]:.3f} nats at step {recipe['steps'][-1]:,}")
        axes.set_ylim(0, 1.1 * tallest)
        mask_rate_axis(axes)
    for axes in list(grid.flat)[len(recipes) :]:
        axes.set_axis_off()
    for axes in grid[:, 0]:
        axes.set_ylabel("nats of the NELBO, by bin")
    keys = [
        (Patch(color=GREY, alpha=0.45, linewidth=0), "the lowest measured (irreducible at most)"),
        (Patch(color="#3f434b", linewidth=0), "above it, in the recipe's colour: learnable"),
    ]
    legend(drawing, [], keys)
    caption = (
        "Each recipe's NELBO at its last step, cut into bins of the mask rate; the percentages are "
        "the bins' shares of it."
    )
    return Plot("remaining", "Where the remaining NELBO sits", caption, drawing)
