"""Plots of the gradient's signal and noise over the mask rate."""

from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from unmask.report.curves import Plot
from unmask.report.style import MARKERS, Key, figure, fold, legend, line_of, marker_of

Record = dict[str, Any]

_GROUPS = ("embedding", "attention", "mlp", "head", "norms")
_NAMES = {"flat": "weight 1", "1/t": "weight 1/t"}
_LEFT_OUT = (
    "An unbiased estimate of a squared norm or a variance can come out negative where the truth is "
    "near 0; such points are left out. "
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


def _positive(values: list[float | None]) -> Any:
    """Square-root-free positive values, nan elsewhere: what a log scale can show."""
    return np.array([v if v is not None and v > 0 else np.nan for v in values], dtype=float)


def _log_axis(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    low, high = axes.get_ylim()
    if high < 100 * low:  # a decade mark is sure to be seen
        middle = (low * high) ** 0.5
        axes.set_ylim(min(low, middle / 10), max(high, middle * 10))
    axes.yaxis.set_minor_formatter(lambda *_: "")


def _signal(entries: list[Record]) -> Plot:
    """Norm of the mean, both standard deviations and the ratio, for both weights."""
    drawing = figure(4.6)
    grid = drawing.subplots(2, 4, sharex=True)
    titles = ("norm of the mean", "std over masks", "std over data", "signal-to-noise")
    for row, weight in zip(grid, _NAMES, strict=True):
        for entry in entries:
            all_of = entry["weights"][weight]["all"]
            style = {"marker": marker_of(_key(entry)), "markersize": 3} | line_of(_key(entry))
            for axes, values in zip(
                row,
                (
                    np.sqrt(_positive(all_of["squared_norm"])),
                    np.sqrt(_positive(all_of["mask_variance"])),
                    np.sqrt(_positive(all_of["data_variance"])),
                    _positive(all_of["snr"]),
                ),
                strict=True,
            ):
                axes.plot(_middles(entry), values, **style)
            error = np.array([v or 0 for v in all_of["snr_stderr"]])
            snr = _positive(all_of["snr"])
            low = np.maximum(snr - error, snr / 10)
            row[3].vlines(_middles(entry), low, snr + error, color=style["color"], linewidth=0.9)
        row[0].set_ylabel(f"{_NAMES[weight]}\ngradient norm")
    limits = [[axes.get_ylim() for axes in row[:3]] for row in grid]
    low, high = (pick(v[k] for r in limits for v in r) for k, pick in ((0, min), (1, max)))
    for column, title in enumerate(titles):
        grid[0, column].set_title(title)
        grid[1, column].set_xlabel("mask rate t")
        for axes in grid[:, column]:
            _log_axis(axes)
    _share_limits(grid[:, :3], max(low, 1e-30), high)
    legend(drawing, [_key(entry) for entry in entries])
    caption = (
        "The gradient of one sequence's loss, all parameters together, with t uniform in a bin: "
        "norm of its mean, its standard deviation over masks of the same block and over blocks, "
        "and the squared norm of the mean over the whole variance (bars: one standard error over "
        "blocks). One over the last is the batch at which signal and noise are equal. " + _LEFT_OUT
    )
    return Plot("gradients", "Gradient signal by mask rate", caption.strip(), drawing)


def _share_limits(grid: Any, low: float, high: float) -> None:
    """One scale for norms and standard deviations, so that heights can be compared."""
    values = np.concatenate([line.get_ydata() for axes in grid.flat for line in axes.lines])
    values = values[np.isfinite(values)]
    if len(values):
        low, high = values.min() / 1.4, values.max() * 1.4
    for axes in grid.flat:
        axes.set_ylim(low, high)


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
        axes.set_xlim(0, 1)
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
            snr = _positive(entry["weights"]["flat"][key.name]["snr"])
            axes.plot(_middles(entry), snr, marker=marker_of(key), markersize=3.5, **line_of(key))
        axes.set_title(fold(_key(entry).name, 36))
        _log_axis(axes)
        axes.set_xlabel("mask rate t")
    panels[0].set_ylabel("signal-to-noise")
    legend(drawing, keys)
    caption = (
        "The signal-to-noise ratio of one sequence's gradient, weight 1, by group of parameters. "
        + _LEFT_OUT
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
            axes.plot(
                _middles(entry),
                _positive(entry["weights"]["flat"]["all"]["snr"]),
                marker=MARKERS[number % len(MARKERS)],
                markersize=3.5,
                color=shade,
                label=f"step {entry['step']:,}",
            )
        axes.set_title(fold(recipe, 36))
        _log_axis(axes)
        axes.set_xlabel("mask rate t")
        axes.legend(fontsize=7, handlelength=2, loc="best")
    panels[0].set_ylabel("signal-to-noise")
    caption = "The signal-to-noise ratio of one sequence's gradient (weight 1) over training."
    return Plot("gradient_steps", "Gradient signal over training", caption, drawing)
