"""A figure and what is said about it, as files and as part of a page."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from unmask.base.files import write_whole
from unmask.plot.key import Entry, entries_of, picture
from unmask.plot.style import NARROW, WIDE, Named, as_png, as_svg, legend, settings

CROWD = 8
"""Arms beyond which the bands of a plot are faint, as they lie over one another."""


@dataclass(frozen=True)
class Plot:
    """A figure and what is said about it.

    Attributes:
        name: of its file, and of its ids in the page.
        title: of its section in the page.
        caption: plain sentences.
        figure: what is drawn, without a legend of its arms.
        arms: those in the figure, which a reader of the page can hide and show by their names.
        extra: further handles of the legend and their labels.
    """

    name: str
    title: str
    caption: str
    figure: Figure
    arms: Sequence[Named] = ()
    extra: Sequence[Entry] = ()


def draw(plots: Callable[[], Iterable[Plot | None]], folder: Path) -> list[dict[str, Any]]:
    """Draw plots in the common style, for wide and for narrow windows; save each as a PNG too.

    Args:
        plots: makes the plots, None where there is nothing to draw; called once for each width.
        folder: where the pictures go.

    Returns:
        What the macro ``figures`` shows of each: ``name``, ``title``, ``caption``, ``wide`` and
        ``narrow`` (SVG), ``crowded``, ``legend`` (of each entry its ``name``, ``picture`` and, of
        an arm, ``index``).
    """
    drawn = []
    with settings(WIDE):
        for plot in filter(None, plots()):
            wide = Markup(as_svg(plot.figure, plot.name, plot.title))
            entries = [*entries_of(plot.arms), *plot.extra]
            crowded = len(plot.arms) > CROWD
            plot.figure.set_layout_engine("none")  # it is laid out now, which takes long
            legend(plot.figure, entries)
            if crowded:
                _faint_bands(plot.figure)
            write_whole(folder / f"{plot.name}.png", as_png(plot.figure))
            places = [arm.index for arm in plot.arms] + [None] * len(plot.extra)
            keys = [
                {"index": index, "name": name, "picture": picture(handle)}
                for index, (handle, name) in zip(places, entries, strict=True)
            ]
            texts = {"name": plot.name, "title": plot.title, "caption": plot.caption}
            drawn.append({**texts, "wide": wide, "crowded": crowded, "legend": keys})
    with settings(NARROW):
        for shown, plot in zip(drawn, filter(None, plots()), strict=True):
            narrow = as_svg(plot.figure, f"{plot.name}-narrow", plot.title)
            shown["narrow"] = Markup(narrow)
    return drawn


def _faint_bands(figure: Figure) -> None:
    for axes in figure.axes:
        for band in axes.collections:
            if (band.get_gid() or "").endswith("-band"):
                band.set_alpha(0.3 * (band.get_alpha() or 1))
