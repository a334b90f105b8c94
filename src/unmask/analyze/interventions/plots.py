"""Plots of the same recipes with and without an intervention."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from unmask.analyze.page import Record
from unmask.plot.figure import Plot
from unmask.plot.key import Entry
from unmask.plot.style import (
    GREY,
    INK,
    PAPER,
    STEPS,
    Key,
    colour,
    draw_mean,
    fold,
    label_axes,
    label_rows,
    limit,
    not_reached,
    panels,
    side_by_side,
)


def all_plots(record: Record) -> list[Plot]:
    """Both plots."""
    return [_curves(record), _changes(record)]


def _curves(record: Record) -> Plot:
    """The bounds over training, a panel for each transform."""
    drawing, every = side_by_side(2, 3.4)
    late: list[float] = [record["unigram"]]
    for axes, setting in zip(every, record["settings"], strict=True):
        for recipe in setting["recipes"]:
            key = Key(recipe["name"], recipe["index"])
            steps, values = np.array(recipe["steps"]), np.array(recipe["nelbo"])
            draw_mean(axes, key, steps, values, markevery=0.12)
            late += values[:, steps >= 0.1 * steps.max()].flatten().tolist()
        axes.axhline(record["unigram"], color=GREY, linewidth=0.8, linestyle=":")
        axes.set_title(f"transform {setting['transform']}")
        label_axes(axes, STEPS, "")
    label_rows(every, "NELBO (nats per token)")
    limit(every[0], late, margin=0.05)
    keys = [Key(r["name"], r["index"]) for r in record["settings"][0]["recipes"]]
    dotted = Line2D([], [], color=GREY, linewidth=0.8, linestyle=":")
    caption = (
        "Validation bound over training on the same text, its tokens in the order of each "
        "transform. "
        + ("Lines: mean over seeds; bands: lowest to highest seed. " if len(record["seeds"]) > 1
           else "One seed. ")
        + "The first tenth of the training may lie above the plots."
    )  # fmt: skip
    extra = [(dotted, "entropy of the token frequencies")]
    return Plot("bounds", "The bound with and without", caption, drawing, keys, extra)


def _changes(record: Record) -> Plot:
    """Each recipe's lead with and without, in nats and as a speed-up."""
    drawing, (left, right) = panels(2, 2, 0.9 + 0.55 * len(record["effects"]), share=True)
    names = [effect["recipe"] for effect in record["effects"]]
    missing = False
    for row, effect in enumerate(record["effects"]):
        for shift, key in ((-0.16, "with"), (0.16, "without")):
            _point(left, row + shift, effect["difference"][key], key, effect["index"])
            ratio = effect["speed_up"][-1][key]
            if ratio["mean"] is None:
                right.plot(0.02, row + shift, "x", color=colour(effect["index"]), markersize=6,
                           transform=right.get_yaxis_transform())  # fmt: skip
                missing = True
            else:
                _point(right, row + shift, ratio, key, effect["index"])
    left.axvline(0, color=GREY, linewidth=0.9, zorder=1)
    right.axvline(1, color=GREY, linewidth=0.9, zorder=1)
    left.set_yticks(range(len(names)), [fold(name, 24) for name in names])
    left.set_ylim(len(names) - 0.5, -0.5)
    left.set_xlabel("last bound less the baseline's\n(nats per token)")
    right.set_xlabel("speed-up at the baseline's last NELBO\n(times, in steps)")
    first, second = record["transforms"]
    keys: list[Entry] = [
        (Line2D([], [], color=INK, marker="o", linestyle=""), f"transform {first}"),
        (Line2D([], [], color=INK, marker="o", linestyle="", markerfacecolor=PAPER),
         f"transform {second}"),
    ]  # fmt: skip
    if missing:
        keys += not_reached()
    caption = (
        f"What each recipe is ahead of {record['settings'][0]['recipes'][0]['name']} by, with "
        f"{first} (filled) and with {second} (open)"
        + ("; bars: 95% intervals over seeds." if len(record["seeds"]) > 1 else "; one seed.")
    )
    return Plot("changes", "What is left of the differences", caption, drawing, extra=keys)


def _point(axes: Axes, y: float, value: Record, key: str, index: int) -> None:
    shade = colour(index)
    if value["low"] is not None:
        axes.hlines(y, value["low"], value["high"], color=shade, linewidth=1.2, zorder=2)
    face = shade if key == "with" else PAPER
    axes.plot(value["mean"], y, "o", color=shade, markerfacecolor=face, markersize=6, zorder=3)
