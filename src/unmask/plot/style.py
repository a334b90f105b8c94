"""Colours, markers and lines by arm, and how a figure is made, so that all plots look alike."""

import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Protocol

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from unmask.plot.page import visible

GREY = "#808080"
"""Lines that stand for no arm."""

Array = np.ndarray[Any, np.dtype[np.float64]]

STEPS = "optimiser steps"

INK = "#16181d"
"""Text, axes and the baseline; the page shows it in its own text colour, light or dark."""

PAPER = "#fefefe"
"""What covers a line as if there were none; the page shows it in its own background."""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's, which colour-blind readers tell apart, less their yellow (faint on white)."""


def colour(index: int) -> str:
    """Colour of the arm at a place in the comparison, 0 the baseline."""
    return INK if index == 0 else COLOURS[(index - 1) % len(COLOURS)]


LINES = ("-", (0, (6, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)), (0, (3, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
WIDE, NARROW = 8.6, 4.3
"""Widths of a figure in inches: for a desktop's window and for a phone's."""

_LABEL = 46  # characters of a legend's label in one line: two columns fit into the width
_LETTERS = 12.0  # of a heading, in an inch

_DECADES = [10.0**power for power in range(-8, 9)]
_TICKS = (  # from fine to coarse
    [d * k for d in _DECADES for k in (1, 1.1, 1.2, 1.3, 1.4, 1.6, 1.8, 2, 2.5, 3, 4, 6, 7, 8, 9)],
    [d * k for d in _DECADES for k in (1, 1.5, 2, 3, 4, 5, 7)],
    [d * k for d in _DECADES for k in (1, 2, 5)],
    _DECADES,
)
_MOST_TICKS = 8

_SETTINGS: Any = {
    "svg.hashsalt": "unmask",  # ids that are the same each time
    "svg.fonttype": "path",  # looks the same where DejaVu Sans is not installed
    "text.parse_math": False,  # a $ in a name is a $
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


class Named(Protocol):
    """What is drawn in a colour of its own: an arm, or whatever has a name and a place."""

    @property
    def name(self) -> str:
        """What it is called in the legend."""

    @property
    def index(self) -> int:
        """Its place, 0 the baseline: decides colour, line and marker."""


@dataclass(frozen=True)
class Key:
    """A name and a place, where there is no more to say."""

    name: str
    index: int


@contextmanager
def settings(width: float = WIDE) -> Iterator[None]:
    """The look of all plots, whatever the user's own matplotlib settings are.

    Args:
        width: of the figures, inches.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        height = matplotlib.rcParams["figure.figsize"][1]
        matplotlib.rcParams.update({**_SETTINGS, "figure.figsize": (width, height)})
        yield


def columns(most: int) -> int:
    """How many axes stand side by side in the width that is set: all, or half on a phone."""
    return most if _width() > NARROW else math.ceil(most / 2)


def _width() -> float:
    return float(matplotlib.rcParams["figure.figsize"][0])


def figure(height: float) -> Figure:
    """An empty figure of the width that is set.

    Args:
        height: inches.
    """
    return Figure(figsize=(_width(), height), layout="constrained")


def line_of(arm: Named, **more: Any) -> dict[str, Any]:
    """Colour, line and marker of an arm, and what else is to be said to matplotlib.

    The baseline is the one thick line. The next six arms have a colour each and a solid line; those
    after them have the same colours with other lines and markers. 180 arms look all different.
    """
    look: dict[str, Any] = {"color": colour(arm.index), "gid": f"arm-{arm.index}"}
    if arm.index == 0:
        return look | {"linestyle": "-", "marker": MARKERS[0], "linewidth": 2.4} | more
    number, cycle = arm.index - 1, (arm.index - 1) // len(COLOURS)
    others = MARKERS[1:]
    look["linestyle"] = LINES[cycle % len(LINES)]
    look["marker"] = others[(number + cycle) % len(others)]
    return look | more


def fold(name: str, width: int) -> str:
    """A name over several lines, broken at its ``+`` ``:`` and ``,`` where that is possible."""
    lines = [""]
    for piece in re.split(r"(?<=[+:, ])", name):
        if lines[-1] and len(lines[-1]) + len(piece) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(part for line in lines for part in textwrap.wrap(line, width) or [line])


def legend(figure: Figure, entries: Sequence[tuple[Artist, str]]) -> None:
    """A legend below the axes of a figure that is laid out; it covers no data.

    The figure grows by it, and its axes keep their size.

    Args:
        figure: to be given the legend.
        entries: handles and their labels.
    """
    if not entries:
        return
    labels = [fold(label, _LABEL) for _, label in entries]
    count = 2 if len(labels) > 3 else 1
    rows = math.ceil(len(labels) / count)
    lines = sum(max(label.count("\n") + 1 for label in labels[r::rows]) for r in range(rows))
    before = figure.get_figheight()
    after = before + 0.1 + 0.21 * lines
    figure.set_figheight(after)
    for axes in figure.axes:
        at = axes.get_position(original=True)
        lower, height = (after - before + at.y0 * before) / after, at.height * before / after
        axes.set_position((at.x0, lower, at.width, height))
    box = figure.legend(
        [handle for handle, _ in entries],
        [str(number) for number in range(len(labels))],
        loc="lower left",
        bbox_to_anchor=(0, 0),
        ncols=count,
        handlelength=3.2,
        columnspacing=1.2,
        fontsize=8.5,
    )
    # Set afterwards, because a legend leaves out what is labelled with a leading underscore.
    for text, label in zip(box.get_texts(), labels, strict=True):
        text.set_text(label)


def panels(
    n: int, most: int, row: float, extra: float = 0.0, share: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure of n axes in rows, the last of which may be short.

    Args:
        n: at least 1.
        most: so many side by side on a desktop, half of them on a phone.
        row: height of a row, inches.
        extra: height beside the rows, inches.
        share: whether all have the same heights, named at the left of a row alone.
    """
    across = columns(min(most, n))
    rows = math.ceil(n / across)
    drawing = figure(extra + row * rows)
    every = list(drawing.subplots(rows, across, squeeze=False, sharey=share).flat)
    for axes in every[n:]:
        axes.set_axis_off()
    return drawing, every[:n]


def side_by_side(n: int, row: float = 2.9) -> tuple[Figure, list[Axes]]:
    """A figure of n axes that share their heights, up to 4 in a row."""
    return panels(n, 4, row if n <= columns(4) else 0.8 * row, share=True)


def label_rows(every: Sequence[Axes], label: str) -> None:
    """Name the vertical axis of the first axes in each row."""
    for axes in every:
        spec = axes.get_subplotspec()
        if spec is None or spec.is_first_col():
            axes.set_ylabel(label)


def heading(axes: Axes, text: str) -> None:
    """A heading over axes, folded to their width; lines in it are kept."""
    spec = axes.get_subplotspec()
    across = spec.get_gridspec().ncols if spec else 1
    room = int(_LETTERS * _width() / across)
    axes.set_title("\n".join(fold(line, room) for line in text.split("\n")), fontsize=8.5)


def not_reached() -> list[tuple[Artist, str]]:
    """What a legend says of the crosses that stand for a level that is not reached."""
    return [
        (Line2D([], [], color=GREY, marker="x", linestyle="", markersize=6), "level not reached")
    ]


def draw_mean(axes: Axes, arm: Named, x: Array, values: Array, **more: Any) -> None:
    """Draw the mean over seeds as a line, and a band from the lowest to the highest.

    Args:
        axes: to draw in.
        arm: what is drawn.
        x: (n,).
        values: (seeds, n).
        more: for the line.
    """
    axes.plot(x, values.mean(0), **line_of(arm, **more))
    if len(values) > 1:
        band: Any = {"color": colour(arm.index), "alpha": 0.18, "linewidth": 0}
        axes.fill_between(x, values.min(0), values.max(0), gid=f"arm-{arm.index}-band", **band)


def label_axes(axes: Axes, x: str, y: str) -> None:
    """Name both axes; the horizontal one begins at 0."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_xlim(left=0)
    axes.margins(x=0.02)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))


def limit(axes: Axes, values: list[float], margin: float) -> None:
    """Limits from the given values alone, with room on both sides."""
    if values:
        low, high = min(values), max(values)
        room = margin * (high - low) or 0.05
        axes.set_ylim(low - room, high + room)


def log_axis(axes: Axes, low: float, high: float, form: str = "{x:,g}") -> None:
    """Make the vertical axis logarithmic, with plain numbers at up to 8 of its round ones.

    Args:
        axes: whose axis it is.
        low, high: its ends, above 0.
        form: of a number ``x``.
    """
    within = [[tick for tick in ticks if low <= tick <= high] for ticks in _TICKS]
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    ticks = next((ticks for ticks in within if len(ticks) <= _MOST_TICKS), within[-1])
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(StrMethodFormatter(form))


def mask_rate_axis(axes: Axes) -> None:
    """Make the horizontal axis that of the mask rate, from 0 to 1."""
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_xlabel("mask rate t")


def as_png(figure: Figure) -> bytes:
    """The figure as a PNG on white, 150 dpi."""
    buffer = BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", dpi=150, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def as_svg(figure: Figure, name: str, title: str) -> str:
    """The figure as an element for an HTML page, in the page's colours of text and paper.

    What shows an arm (`line_of`) is a group with its place: ``<g class="arm" data-arm="3">``.

    Args:
        figure: what is drawn.
        name: put before every id, since the ids of all plots of a page are in one space.
        title: for those who cannot see it.
    """
    buffer = BytesIO()
    FigureCanvasSVG(figure)
    # Without these the file has no metadata block, so neither a date nor addresses.
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue().decode()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(
        r'(?<=[ "])(-?\d+\.\d\d)\d+(?=[ "])', r"\1", svg
    )  # a hundredth of a point is enough
    svg = re.sub(r'\bid="arm-(\d+)-band"', r'class="arm band" data-arm="\1"', svg)
    svg = re.sub(r'\bid="arm-(\d+)"', r'class="arm" data-arm="\1"', svg)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'\bhref="#', f'href="#{name}-', svg)
    svg = in_page_colours(svg.replace("url(#", f"url(#{name}-"))
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    label = Markup('<svg role="img" aria-label="{}"').format(visible(title))
    return svg.replace("<svg", label, 1)


def in_page_colours(svg: str) -> str:
    """SVG whose ink and paper are the page's, so that they are right on a dark one."""
    return svg.replace(INK, "currentColor").replace(PAPER, f"var(--paper, {PAPER})")
