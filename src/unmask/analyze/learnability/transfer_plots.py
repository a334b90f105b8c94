"""Plots of the transfer matrix: which mask rates teach which."""

from typing import Any

import numpy as np

from unmask.plot.figure import Plot
from unmask.plot.style import COLOURS, figure, fold

Record = dict[str, Any]

_MOST_NUMBERS = 12  # bins beyond which cells carry no numbers


def transfer_plots(transfers: list[Record], budget: Record) -> list[Plot]:
    """A plot for each checkpoint."""
    return [_matrix(entry, number, budget) for number, entry in enumerate(transfers)]


def _matrix(entry: Record, number: int, budget: Record) -> Plot:
    """Heat map of the change of c(t), and beside it the change of the NELBO."""
    change = 1000 * np.array(entry["change"])
    error = 1000 * np.array(entry["change_stderr"])
    rows, columns = change.shape
    drawing = figure(max(2.9, 1.2 + 0.28 * rows))
    axes, side = drawing.subplots(1, 2, width_ratios=[3.1, 1])
    # What a few steps forget can be many times what they learn, which would then be all one shade.
    learnt = max(-float(change.min()), 0.0)
    most = min(float(np.abs(change).max()), 2 * learnt or float("inf")) or 1.0
    image = axes.pcolormesh(
        np.linspace(0, 1, columns + 1), np.arange(rows + 1), change, cmap="PuOr_r",
        vmin=-most, vmax=most, edgecolors="white", linewidth=0.5,
    )  # fmt: skip
    if columns <= _MOST_NUMBERS:
        for (i, j), value in np.ndenumerate(change):
            said = f"{value:.0f}" if abs(value) >= 10 else f"{value:.1f}"
            clear = abs(value) >= 2 * error[i, j]
            dark = abs(value) > 0.62 * most
            axes.text((j + 0.5) / columns, i + 0.5, said if clear else f"({said})",
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
    axes.set_title(fold(f"{entry['recipe']}, from step {entry['step']:,}", 60))
    beyond = "max" if change.max() > most else "neither"
    bar = drawing.colorbar(image, ax=axes, pad=0.015, aspect=32, extend=beyond)
    bar.set_label("change of c(t) (millinats)", fontsize=8)
    bar.outline.set_visible(False)
    nelbo = 1000 * np.array(entry["nelbo_change"])
    spread = 1000 * np.array(entry["nelbo_change_stderr"])
    side.barh(middles, nelbo, height=0.72, color=COLOURS[0], alpha=0.85)
    side.hlines(middles, nelbo - spread, nelbo + spread, color=COLOURS[1], linewidth=1.6)
    side.axvline(0, color="#808080", linewidth=0.8)
    side.set_ylim(rows, 0)
    side.set_yticks(middles, [""] * rows)
    side.tick_params(axis="y", length=0)
    side.set_xlabel("change of NELBO\n(millinats per token)")
    steps = f"{budget['steps']} optimiser {'step' if budget['steps'] == 1 else 'steps'}"
    caption = (
        f"{steps} (weight 1, learning rate {entry['learning_rate']:.2g}) from the same weights and "
        "optimiser state with t in one bin alone, or uniform in (0, 1): the change of c(t) in "
        f"every bin (nats per masked token / 1000), mean of {budget['restarts']} restarts with "
        "other training blocks and masks. "
        "Negative (purple): learnt; the scale ends at twice the most that is. In brackets: "
        "within two standard errors over the restarts. "
        "Right: the change of the NELBO, with one standard error. Before and after are measured on "
        "the same validation blocks and masks."
    )
    title = f"Which mask rates teach which: {entry['recipe']}, step {entry['step']:,}"
    return Plot(f"transfer_{number}", title, caption, drawing)
