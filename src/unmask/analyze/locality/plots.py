"""Plots of a study of locality."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from unmask.analyze.page import Record
from unmask.plot.figure import Plot
from unmask.plot.key import Entry
from unmask.plot.style import (
    COLOURS,
    INK,
    LINES,
    MARKERS,
    figure,
    label_rows,
    mask_rate_axis,
    panels,
)

BLUE, ORANGE, GREEN, PINK, *_ = COLOURS
_MODELS = {"evidence": BLUE, "nearest": ORANGE, "profile": GREEN}
_SIDES = {"both": INK, "left": BLUE, "right": ORANGE}


def all_plots(record: Record) -> list[Plot]:
    """All plots that the record has numbers for."""
    drawn = [_information(record), _mask_runs(record), _reach(record)]
    return [*drawn, _windows(record["run"])] if record["run"] else drawn


def _information(record: Record) -> Plot:
    found = record["mutual_information"]
    d, nats = np.array(found["distances"]), np.array(found["nats"])
    error = 1.96 * np.array(found["stderr"])
    drawing = figure(3.4)
    axes = drawing.subplots()
    floor = max(1e-5, 0.5 * min((v for v in nats if v > 0), default=1e-5))
    low = np.maximum(nats - error, floor)
    axes.fill_between(d, low, np.maximum(nats + error, floor), color=BLUE, alpha=0.2, linewidth=0)
    axes.plot(d, np.maximum(nats, floor), color=BLUE, marker="o", label="bias-corrected, 95%")
    axes.plot(d, found["plugin"], color=ORANGE, linestyle=LINES[1], label="plug-in, uncorrected")
    axes.set_xscale("log", base=2)
    _log_height(axes)
    ticks = [2**k for k in range(int(np.log2(d.max())) + 1)]
    axes.set_xticks(ticks, [str(v) for v in ticks])
    axes.set_xlabel("distance d (tokens)")
    axes.set_ylabel("mutual information (nats)")
    caption = (
        f"Information between a token and the one d away, from {found['tokens']:,} training "
        f"tokens; one token has {found['entropy']:.3f} nats. The band is a 95% interval from "
        f"deleting one of {found['n_groups']} stretches of text at a time. Values at or below "
        "zero lie on the lower edge."
    )
    title = "Information by distance"
    return Plot("information", title, caption, drawing, extra=_labelled(axes))


def _mask_runs(record: Record) -> Plot:
    shown = 32
    drawing, every = panels(2, 2, 3.4)
    for axes, key, label in zip(
        every,
        ("run", "nearest"),
        ("tokens in the target's masked run", "distance to the nearest visible token"),
        strict=True,
    ):
        for number, runs in enumerate(record["mask_runs"]):
            style: dict[str, Any] = {"color": (INK, *COLOURS)[number % 7]}
            n = min(shown, len(runs["block"][key]) - 1)
            k = np.arange(1, n + 1)
            axes.plot(k, runs["endless"][key][:n], linestyle=LINES[2], linewidth=1, **style)
            axes.plot(k, runs["block"][key][:n], label=f"t = {runs['t']:g}", **style)
            dots = np.array(runs["counted"][key][:n])
            seen = dots > 0
            axes.plot(k[seen], dots[seen], MARKERS[number % len(MARKERS)], markersize=3, **style)
        _log_height(axes)
        axes.set_ylim(1e-4, 1.2)
        axes.set_xlabel(label)
    label_rows(every, "chance")
    caption = (
        f"Around a masked target in a block of {record['block_size']} tokens. Lines: closed form "
        "for tokens masked each on its own, in the block; dotted: in a text without ends; marks: "
        f"counted in masks of the recipe's own kind ({record['masking']})."
    )
    return Plot("mask_runs", "Mask runs", caption, drawing, extra=_labelled(every[0]))


def _reach(record: Record) -> Plot:
    reach, bell, run = record["reach"], record["bell"], record["run"]
    t = np.array(reach["t"])
    drawing, (left, right) = panels(2, 2, 3.4)
    for number, (name, colour) in enumerate(_MODELS.items()):
        if name in reach:
            style: dict[str, Any] = {"color": colour, "linestyle": LINES[number]}
            left.plot(t, reach[name], label=f"predicted, {name}", **style)
            right.plot(t, t * np.array(reach[name]), **style)
    if run:
        pairs = [
            (a, b)
            for a, b in zip(run["reach"]["t"], run["reach"]["measured"], strict=True)
            if b is not None
        ]
        at, measured = np.array(pairs).T
        left.plot(at, measured, "o", color=INK, label="measured, H - c(t)")
        right.plot(at, at * measured, "o", color=INK)
    left.set_ylabel("R(t) (nats per masked token)")
    right.set_ylabel("t R(t) (nats per token)")
    if bell["recipe"]:
        low, high = bell["mean"] - bell["std"], bell["mean"] + bell["std"]
        right.axvspan(low, high, color=BLUE, alpha=0.12, linewidth=0)
        right.axvline(bell["mean"], color=BLUE, linewidth=0.8)
    for axes in (left, right):
        axes.set_ylim(bottom=0)
        mask_rate_axis(axes)
    caption = (
        "R(t): information that reaches a masked token, predicted. t R(t): what "
        "a step at that rate has to teach, per position."
    )
    if run:
        caption += " Dots: what the run measured, H - c(t)."
    if bell["recipe"]:
        caption += f" Shaded: the recommended bell, {bell['recipe']}, one width to each side."
    title = "Information that reaches a masked token"
    return Plot("reach", title, caption, drawing, extra=_labelled(left))


def _windows(run: Record) -> Plot:
    drawing = figure(3.4)
    axes = drawing.subplots()
    r = np.log2(np.array(run["radii"]) + 1)
    for number, (side, colour) in enumerate(_SIDES.items()):
        found = run["sides"][side]
        axes.errorbar(
            r + 0.02 * (number - 1),
            found["cross_entropy"],
            yerr=found["cross_entropy_stderr"],
            color=colour,
            linestyle=LINES[number],
            marker=MARKERS[number],
            capsize=2,
            label={"both": "both sides", "left": "left only", "right": "right only"}[side],
        )
    for number, (part, held) in enumerate(run["sides"]["both"]["holds"].items()):
        if held:
            axes.axvline(
                np.log2(held["tokens"] + 1),
                color=PINK,
                linewidth=1,
                linestyle=LINES[number],
                label=f"{part} of it within {held['tokens']:.1f} tokens",
            )
    axes.set_xticks(r, [str(v) for v in run["radii"]])
    axes.set_xlabel("visible within distance r (tokens); all else masked")
    axes.set_ylabel("cross-entropy (nats)")
    caption = (
        f"Cross-entropy of a target when only the tokens within r are visible; "
        f"{run['targets']} targets in each of {run['blocks']} validation blocks, one standard "
        "error over blocks. Upright lines: where 50 and 90% of what both sides give together sits, "
        "interpolated over log(1 + r). This measures the information that this model can use: what "
        "it has not learnt, or cannot use in inputs its recipe hardly draws, does not show."
    )
    title = "Information within a window"
    return Plot("windows", title, caption, drawing, extra=_labelled(axes))


def _log_height(axes: Axes) -> None:
    """A logarithmic axis with plain numbers: powers would need the math that names must not."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _labelled(axes: Axes) -> list[Entry]:
    """What the axes show that has a label, for a legend."""
    return list(zip(*axes.get_legend_handles_labels(), strict=True))
