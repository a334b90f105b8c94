"""Plots of what is left to learn, over the mask rate t: curves, gradients, transfer."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from unmask.analyze.learnability.gradients import ALL, PARAMETER_GROUPS
from unmask.analyze.page import Record
from unmask.base.wording import counted
from unmask.compare.records import quarters
from unmask.plot.figure import Plot
from unmask.plot.style import (
    COLOURS,
    GREY,
    INK,
    MARKERS,
    Array,
    Key,
    colour,
    columns,
    figure,
    heading,
    label_rows,
    line_of,
    log_axis,
    mask_rate_axis,
    panels,
    side_by_side,
)

_NAMES = {"flat": "weight 1", "1/t": "weight 1/t"}
_PARTS = {
    "squared_norm": "norm of the mean",
    "mask_variance": "std over masks",
    "data_variance": "std over data",
}
_NEGATIVE = (
    "The estimates are unbiased, so where the truth is near 0 a squared norm or a variance, and "
    "with it a ratio, can come out negative: it then has no root to be drawn. "
)
_MOST_NUMBERS = 12  # bins beyond which cells carry no numbers


def all_plots(record: Record) -> list[Plot]:
    """Every plot of the record, in the page's order."""
    curves = record["curves"]
    return [
        _curves(curves),
        _reducible(curves),
        _remaining(curves),
        *_gradient_plots(record["gradients"]),
        *(_matrix(entry, n, record["budget"]) for n, entry in enumerate(record["transfer"])),
    ]


def _by_moment(curves: Record, key: str, label: str, shade: bool) -> tuple[Figure, list[Key]]:
    """A number by mask rate, a panel for each moment, and the recipes in it."""
    moments = quarters(max((r["steps"] for r in curves["recipes"]), key=lambda s: s[-1]))
    drawing, every = side_by_side(len(moments))
    shown = []
    for axes, moment in zip(every, moments, strict=True):
        if shade:
            edges = np.linspace(0, 1, len(curves["lowest"]) + 1)
            axes.stairs(curves["lowest"], edges, fill=True, color=GREY, alpha=0.35, linewidth=0)
        for recipe in curves["recipes"]:
            if moment in recipe["steps"]:
                arm = Key(recipe["name"], recipe["index"])
                values = recipe[key][recipe["steps"].index(moment)]
                axes.plot(curves["t"], values, **line_of(arm, markersize=3.5))
                shown += [] if arm in shown else [arm]
        axes.set_title(f"step {moment:,}")
        mask_rate_axis(axes)
    every[0].set_ylim(bottom=0)  # of all, once all are drawn
    label_rows(every, label)
    return drawing, sorted(shown, key=lambda arm: arm.index)


def _curves(curves: Record) -> Plot:
    drawing, arms = _by_moment(curves, "c_t", "c(t) (nats per masked token)", shade=True)
    caption = (
        "Mean cross-entropy per masked token on the validation blocks; mean over seeds. Grey: the "
        "lowest that any recipe, seed and step of the comparison had in each bin, an upper bound "
        "on the part that no model can learn. A curve's area is its NELBO."
    )
    extra = [(Patch(color=GREY, alpha=0.35, linewidth=0), "the lowest c(t) measured")]
    return Plot("curves", "Cross-entropy by mask rate", caption, drawing, arms, extra)


def _reducible(curves: Record) -> Plot:
    drawing, arms = _by_moment(curves, "reducible", "reducible, at least (nats)", shade=False)
    caption = (
        "The same curves above the grey area: what was still to be learnt, at least, at each mask "
        "rate and step."
    )
    return Plot("reducible", "Reducible error by mask rate", caption, drawing, arms)


def _remaining(curves: Record) -> Plot:
    """Where the NELBO of each recipe sits at its last step."""
    recipes = curves["recipes"]
    drawing, every = panels(len(recipes), 3, 2.1, 0.3)
    n = len(curves["t"])
    lowest = np.array(curves["lowest"]) / n
    tallest = max(max(recipe["c_t"][-1]) for recipe in recipes) / n
    for axes, recipe in zip(every, recipes, strict=True):
        left = np.array(recipe["reducible"][-1]) / n
        axes.bar(curves["t"], lowest, width=0.86 / n, color=GREY, alpha=0.45)
        shade = colour(recipe["index"])
        axes.bar(curves["t"], left, width=0.86 / n, bottom=lowest, color=shade)
        for t, top, part in zip(curves["t"], lowest + left, recipe["nelbo_share"][-1], strict=True):
            axes.annotate(f"{part:.0%}", (t, top), xytext=(0, 2), textcoords="offset points",
                          ha="center", fontsize=6.5)  # fmt: skip
        at = f"{recipe['nelbo'][-1]:.3f} nats at step {recipe['steps'][-1]:,}"
        heading(axes, f"{recipe['name']}\n{at}")
        axes.set_ylim(0, 1.1 * tallest)
        mask_rate_axis(axes)
    label_rows(every, "nats of the NELBO, by bin")
    keys = [
        (Patch(color=GREY, alpha=0.45, linewidth=0), "the lowest measured (irreducible at most)"),
        (Patch(color=INK, linewidth=0), "above it, in the recipe's colour: learnable"),
    ]
    caption = (
        "Each recipe's NELBO at its last step, cut into bins of the mask rate; the percentages are "
        "the bins' shares of it."
    )
    title = "Where the remaining NELBO sits"
    return Plot("remaining", title, caption, drawing, extra=keys)


def _gradient_plots(gradients: list[Record]) -> list[Plot]:
    last = {entry["recipe"]: entry for entry in gradients}  # the last checkpoint of each
    entries = list(last.values())
    plots = [_signal(entries), _noise_share(entries), _by_group(entries)]
    return plots if len(gradients) == len(last) else [*plots, _over_steps(gradients, list(last))]


def _key(entry: Record) -> Key:
    return Key(f"{entry['recipe']}, step {entry['step']:,}", entry["index"])


def _middles(entry: Record) -> Array:
    return np.asarray(np.mean(entry["bins"], axis=1), float)


def _roots(values: list[float | None]) -> Array:
    """Square roots, nan where there is none."""
    return np.array([np.nan if v is None or v <= 0 else v**0.5 for v in values])


def _draw_ratio(axes: Axes, entry: Record, signal: Record, style: Record) -> None:
    """The signal-to-noise ratio with a bar of one standard error each way."""
    snr = np.array(signal["snr"], float)  # nan for None
    error = np.nan_to_num(np.array(signal["snr_stderr"], float))
    axes.plot(_middles(entry), snr, **style)
    bars = {name: style[name] for name in ("color", "gid", "alpha") if name in style}
    axes.vlines(_middles(entry), snr - error, snr + error, linewidth=0.8, **bars)
    axes.axhline(0, color=GREY, linewidth=0.7, zorder=1)
    mask_rate_axis(axes)


def _signal(entries: list[Record]) -> Plot:
    """Norm of the mean, both standard deviations and the ratio, for both weights."""
    across = columns(4)
    drawing = figure(4.6 if across == 4 else 7.6)
    # A row for each weight; on a phone, where four do not fit side by side, a column.
    grid = drawing.subplots(2, 4) if across == 4 else drawing.subplots(4, 2).T
    for row, weight in zip(grid, _NAMES, strict=True):
        for entry in entries:
            signal = entry["weights"][weight]["all"]
            style = line_of(_key(entry), markersize=3)
            for axes, part in zip(row, _PARTS, strict=False):
                axes.plot(_middles(entry), _roots(signal[part]), **style)
            _draw_ratio(row[3], entry, signal, style)
        for axes, title in zip(row, (*_PARTS.values(), "signal-to-noise"), strict=True):
            heading(axes, f"{_NAMES[weight]}\n{title}")
    _one_log_scale(list(grid[:, :3].flat))
    label_rows(list(grid[:, :3].flat), "gradient norm")
    for axes in grid.flat:
        if not axes.get_subplotspec().is_last_row():
            axes.set_xlabel("")
    caption = (
        "The gradient of one sequence's loss, all parameters together, with t uniform in a bin: "
        "norm of its mean, its standard deviation over masks of the same block and over blocks, "
        "and the squared norm of the mean over the whole variance (bars: one standard error over "
        "blocks). One over the last is the batch at which signal and noise are equal. " + _NEGATIVE
    )
    keys = [_key(entry) for entry in entries]
    return Plot("gradients", "Gradient signal by mask rate", caption.strip(), drawing, keys)


def _one_log_scale(every: list[Axes]) -> None:
    """One log scale for norms and standard deviations, so that heights can be compared."""
    values = np.concatenate([np.asarray(line.get_ydata()) for axes in every for line in axes.lines])
    values = values[np.isfinite(values) & (values > 0)]
    low, high = (values.min() / 1.3, values.max() * 1.3) if len(values) else (0.1, 1.0)
    for axes in every:
        log_axis(axes, low, high)
        mask_rate_axis(axes)


def _noise_share(entries: list[Record]) -> Plot:
    """Which bins the noise of a batch with uniform t comes from."""
    drawing, every = side_by_side(len(_NAMES))
    for axes, weight in zip(every, _NAMES, strict=True):
        for entry in entries:
            all_of = entry["weights"][weight]["all"]
            pairs = zip(all_of["mask_variance"], all_of["data_variance"], strict=True)
            noise = np.array([max(a + b, 0) for a, b in pairs])
            share = 100 * noise / noise.sum()
            axes.plot(_middles(entry), share, **line_of(_key(entry), markersize=3.5))
        axes.set_title(_NAMES[weight])
        mask_rate_axis(axes)
    every[0].set_ylim(bottom=0)
    label_rows(every, "share of the noise (%)")
    caption = (
        "If t were uniform: the part of the gradient's variance (within bins, masks and data "
        "together) that comes from each bin, for both weights."
    )
    keys = [_key(entry) for entry in entries]
    return Plot("noise_share", "Where the noise comes from", caption, drawing, keys)


def _by_group(entries: list[Record]) -> Plot:
    """Signal-to-noise of each group of parameters, a panel for each recipe."""
    drawing, every = side_by_side(len(entries))
    groups = [group for group in PARAMETER_GROUPS if group != ALL]
    keys = [Key(group, index) for index, group in enumerate(groups, 1)]
    for axes, entry in zip(every, entries, strict=True):
        for key in keys:
            signal = entry["weights"]["flat"][key.name]
            _draw_ratio(axes, entry, signal, line_of(key, markersize=3.5))
        heading(axes, _key(entry).name)
    label_rows(every, "signal-to-noise")
    caption = (
        "The signal-to-noise ratio of one sequence's gradient, weight 1, by group of parameters. "
        "The estimate is unbiased, so where the truth is near 0 it can come out negative."
    )
    title = "Gradient signal by part of the network"
    return Plot("gradient_groups", title, caption, drawing, keys)


def _over_steps(gradients: list[Record], recipes: list[str]) -> Plot:
    """The ratio at every checkpoint looked at, a panel for each recipe, later is stronger."""
    drawing, every = side_by_side(len(recipes))
    for axes, recipe in zip(every, recipes, strict=True):
        entries = [entry for entry in gradients if entry["recipe"] == recipe]
        strengths = np.linspace(0.3, 1, len(entries))
        for number, (entry, alpha) in enumerate(zip(entries, strengths, strict=True)):
            style = {"marker": MARKERS[number % len(MARKERS)], "markersize": 3.5, "color": INK}
            style["alpha"] = float(alpha)
            style["label"] = f"step {entry['step']:,}"
            _draw_ratio(axes, entry, entry["weights"]["flat"]["all"], style)
        heading(axes, recipe)
        axes.legend(fontsize=7, handlelength=2, loc="best")
    label_rows(every, "signal-to-noise")
    caption = "The signal-to-noise ratio of one sequence's gradient (weight 1) over training."
    return Plot("gradient_steps", "Gradient signal over training", caption, drawing)


def _matrix(entry: Record, number: int, budget: Record) -> Plot:
    """Heat map of the change of c(t), and beside it the change of the NELBO."""
    change = 1000 * np.array(entry["change"])
    error = 1000 * np.array(entry["change_stderr"])
    rows, bins = change.shape
    height = max(2.9, 1.2 + 0.28 * rows)
    if columns(2) == 2:
        drawing = figure(height)
        axes, side = drawing.subplots(1, 2, width_ratios=[3.1, 1])
    else:
        drawing = figure(1.8 * height)
        axes, side = drawing.subplots(2, 1)
    # What a few steps forget can be many times what they learn, which would then be all one shade.
    learnt = max(-float(change.min()), 0.0)
    most = min(float(np.abs(change).max()), 2 * learnt or float("inf")) or 1.0
    image = axes.pcolormesh(
        np.linspace(0, 1, bins + 1), np.arange(rows + 1), change, cmap="PuOr_r",
        vmin=-most, vmax=most, edgecolors="white", linewidth=0.5,
    )  # fmt: skip
    if bins <= _MOST_NUMBERS:
        for (i, j), value in np.ndenumerate(change):
            said = f"{value:.0f}" if abs(value) >= 10 else f"{value:.1f}"
            clear = abs(value) >= 2 * error[i, j]
            dark = abs(value) > 0.62 * most
            axes.text((j + 0.5) / bins, i + 0.5, said if clear else f"({said})",
                      ha="center", va="center", fontsize=6.8,
                      color="#ffffff" if dark else "#000000")  # fmt: skip
    names = [f"{low:.3g}–{high:.3g}" for low, high in entry["rows"][:-1]] + ["uniform"]
    middles = np.arange(rows) + 0.5
    axes.set_yticks(middles, names)
    axes.set_ylim(rows, 0)
    axes.set_xlim(0, 1)
    axes.tick_params(axis="y", length=0)
    axes.set_ylabel("t of the steps")
    axes.set_xlabel("mask rate t at which c(t) is measured")
    heading(axes, f"{entry['recipe']}, from step {entry['step']:,}")
    beyond = "max" if change.max() > most else "neither"
    bar = drawing.colorbar(image, ax=axes, pad=0.015, aspect=32, extend=beyond)
    bar.set_label("change of c(t) (millinats)", fontsize=8)
    bar.outline.set_visible(False)
    if bar.solids is not None:
        bar.solids.set_rasterized(False)  # a page shows no pictures, not even those it brings along
        bar.solids.set_edgecolor("face")
    nelbo = 1000 * np.array(entry["nelbo_change"])
    spread = 1000 * np.array(entry["nelbo_change_stderr"])
    side.barh(middles, nelbo, height=0.72, color=COLOURS[0], alpha=0.85)
    side.hlines(middles, nelbo - spread, nelbo + spread, color=COLOURS[1], linewidth=1.6)
    side.axvline(0, color=GREY, linewidth=0.8)
    side.set_ylim(rows, 0)
    side.set_yticks(middles, [""] * rows if columns(2) == 2 else names)
    side.tick_params(axis="y", length=0)
    side.set_xlabel("change of NELBO\n(millinats per token)")
    caption = (
        f"{counted(budget['steps'], 'optimiser step')} (weight 1, learning rate "
        f"{entry['learning_rate']:.2g}) from the same weights and optimiser state "
        "with t in one bin alone, or uniform in (0, 1): the change of c(t) in "
        f"every bin (nats per masked token / 1000), mean of {budget['restarts']} restarts with "
        "other training blocks and masks. "
        "Negative (purple): learnt; the scale ends at twice the most that is, or at the largest "
        "change where that is less. In brackets: "
        "within two standard errors over the restarts. "
        "Bars: the change of the NELBO, with one standard error. Before and after are measured on "
        "the same validation blocks and masks."
    )
    title = f"Which mask rates teach which: {entry['recipe']}, step {entry['step']:,}"
    return Plot(f"transfer_{number}", title, caption, drawing)
