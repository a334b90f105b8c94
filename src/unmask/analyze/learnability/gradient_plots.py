"""Plots of the gradient's signal and noise over the mask rate."""

from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from unmask.plot.figure import Plot
from unmask.plot.style import MARKERS, Key, figure, fold, legend, line_of, marker_of

Record = dict[str, Any]

_GROUPS = ("embedding", "attention", "mlp", "head", "norms")
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


def gradient_plots(gradients: list[Record]) -> list[Plot]:
    """All plots of the gradients."""
    last = {entry["recipe"]: entry for entry in gradients}  # the last checkpoint of each
    plots = [_signal(list(last.values())), _noise_share(list(last.values()))]
    plots.append(_by_group(list(last.values())))
    if len(gradients) > len(last):
        plots.append(_over_steps(gradients, list(last)))
    return plots


def _key(entry: Record) -> Key:
    return Key(f"{entry['recipe']}, step {entry['step']:,}", entry["index"])


def _middles(entry: Record) -> Any:
    return np.array(entry["bins"]).mean(axis=1)


def _known(values: list[float | None]) -> Any:
    return np.array([np.nan if v is None else v for v in values], dtype=float)


def _roots(values: list[float | None]) -> Any:
    """Square roots, nan where there is none."""
    known = _known(values)
    return np.sqrt(np.where(known > 0, known, np.nan))


def _rate_axis(axes: Axes) -> None:
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])


def _draw_ratio(axes: Axes, entry: Record, signal: Record, style: Record) -> None:
    """The signal-to-noise ratio with a bar of one standard error each way."""
    snr, error = _known(signal["snr"]), np.nan_to_num(_known(signal["snr_stderr"]))
    axes.plot(_middles(entry), snr, **style)
    axes.vlines(_middles(entry), snr - error, snr + error, color=style["color"], linewidth=0.8)
    axes.axhline(0, color="#808080", linewidth=0.7, zorder=1)
    _rate_axis(axes)


def _signal(entries: list[Record]) -> Plot:
    """Norm of the mean, both standard deviations and the ratio, for both weights."""
    drawing = figure(4.6)
    grid = drawing.subplots(2, 4, sharex=True)
    for row, weight in zip(grid, _NAMES, strict=True):
        for entry in entries:
            signal = entry["weights"][weight]["all"]
            style = {"marker": marker_of(_key(entry)), "markersize": 3} | line_of(_key(entry))
            for axes, part in zip(row, _PARTS, strict=False):
                axes.plot(_middles(entry), _roots(signal[part]), **style)
            _draw_ratio(row[3], entry, signal, style)
        row[0].set_ylabel(f"{_NAMES[weight]}\ngradient norm")
    for column, title in enumerate((*_PARTS.values(), "signal-to-noise")):
        grid[0, column].set_title(title)
        grid[1, column].set_xlabel("mask rate t")
    _one_log_scale(list(grid[:, :3].flat))
    legend(drawing, [_key(entry) for entry in entries])
    caption = (
        "The gradient of one sequence's loss, all parameters together, with t uniform in a bin: "
        "norm of its mean, its standard deviation over masks of the same block and over blocks, "
        "and the squared norm of the mean over the whole variance (bars: one standard error over "
        "blocks). One over the last is the batch at which signal and noise are equal. " + _NEGATIVE
    )
    return Plot("gradients", "Gradient signal by mask rate", caption.strip(), drawing)


def _one_log_scale(panels: list[Axes]) -> None:
    """One log scale for norms and standard deviations, so that heights can be compared."""
    values = np.concatenate(
        [np.asarray(line.get_ydata()) for axes in panels for line in axes.lines]
    )
    values = values[np.isfinite(values) & (values > 0)]
    low, high = (values.min() / 1.3, values.max() * 1.3) if len(values) else (0.1, 1.0)
    ticks = [d * k for d in 10.0 ** np.arange(-8, 9) for k in (1, 3) if low <= d * k <= high]
    for axes in panels:
        axes.set_yscale("log")
        axes.set_ylim(low, high)
        axes.yaxis.set_major_locator(FixedLocator(ticks))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        _rate_axis(axes)


def _noise_share(entries: list[Record]) -> Plot:
    """Which bins the noise of a batch with uniform t comes from."""
    drawing = figure(2.6)
    panels = drawing.subplots(1, 2, sharey=True)
    for axes, weight in zip(panels, _NAMES, strict=True):
        for entry in entries:
            all_of = entry["weights"][weight]["all"]
            pairs = zip(all_of["mask_variance"], all_of["data_variance"], strict=True)
            noise = np.array([max(a + b, 0) for a, b in pairs])
            style = {"marker": marker_of(_key(entry)), "markersize": 3.5} | line_of(_key(entry))
            axes.plot(_middles(entry), 100 * noise / noise.sum(), **style)
        axes.set_title(_NAMES[weight])
        _rate_axis(axes)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("mask rate t")
    panels[0].set_ylabel("share of the noise (%)")
    legend(drawing, [_key(entry) for entry in entries])
    caption = (
        "If t were uniform: the part of the gradient's variance (within bins, masks and data "
        "together) that comes from each bin, for both weights."
    )
    return Plot("noise_share", "Where the noise comes from", caption, drawing)


def _by_group(entries: list[Record]) -> Plot:
    """Signal-to-noise of each group of parameters, a panel for each recipe."""
    drawing = figure(2.8)
    panels = drawing.subplots(1, len(entries), sharey=True, squeeze=False)[0]
    keys = [Key(group, index + 1) for index, group in enumerate(_GROUPS)]
    for axes, entry in zip(panels, entries, strict=True):
        for key in keys:
            style = {"marker": marker_of(key), "markersize": 3.5} | line_of(key)
            _draw_ratio(axes, entry, entry["weights"]["flat"][key.name], style)
        axes.set_title(fold(_key(entry).name, 36))
        axes.set_xlabel("mask rate t")
    panels[0].set_ylabel("signal-to-noise")
    legend(drawing, keys)
    caption = (
        "The signal-to-noise ratio of one sequence's gradient, weight 1, by group of parameters. "
        + _NEGATIVE
    )
    return Plot("gradient_groups", "Gradient signal by part of the network", caption.strip(),
                drawing)  # fmt: skip


def _over_steps(gradients: list[Record], recipes: list[str]) -> Plot:
    """The ratio at every checkpoint looked at, a panel for each recipe, later is darker."""
    drawing = figure(2.8)
    panels = drawing.subplots(1, len(recipes), sharey=True, squeeze=False)[0]
    for axes, recipe in zip(panels, recipes, strict=True):
        entries = [entry for entry in gradients if entry["recipe"] == recipe]
        shades = matplotlib.colormaps["viridis_r"](np.linspace(0.15, 0.95, len(entries)))
        for number, (entry, shade) in enumerate(zip(entries, shades, strict=True)):
            style = {"marker": MARKERS[number % len(MARKERS)], "markersize": 3.5, "color": shade}
            style["label"] = f"step {entry['step']:,}"
            _draw_ratio(axes, entry, entry["weights"]["flat"]["all"], style)
        axes.set_title(fold(recipe, 36))
        axes.set_xlabel("mask rate t")
        axes.legend(fontsize=7, handlelength=2, loc="best")
    panels[0].set_ylabel("signal-to-noise")
    caption = "The signal-to-noise ratio of one sequence's gradient (weight 1) over training."
    return Plot("gradient_steps", "Gradient signal over training", caption, drawing)
