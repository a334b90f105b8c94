"""A figure and what is said about it, as files and as part of a page."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from matplotlib.figure import Figure

from unmask.base.files import write_whole
from unmask.plot.style import as_png, as_svg, settings


@dataclass(frozen=True)
class Plot:
    """A figure and what is said about it.

    Attributes:
        name: of its file, and of its ids in the page.
        title: of its section in the page.
        caption: plain sentences.
        figure: what is drawn.
    """

    name: str
    title: str
    caption: str
    figure: Figure


def draw(plots: Callable[[], Iterable[Plot | None]], folder: Path) -> list[dict[str, str]]:
    """Draw plots in the common style and save each as a PNG.

    Args:
        plots: makes the plots; None where there is nothing to draw.
        folder: where the pictures go.

    Returns:
        What the macro ``figures`` shows of each: ``name``, ``title``, ``caption``, ``svg``.
    """
    drawn = []
    with settings():
        for plot in filter(None, plots()):
            write_whole(folder / f"{plot.name}.png", as_png(plot.figure))
            plot.figure.set_layout_engine("none")  # it is laid out now, which takes long
            texts = {"name": plot.name, "title": plot.title, "caption": plot.caption}
            drawn.append({**texts, "svg": Markup(as_svg(plot.figure, plot.name, plot.title))})
    return drawn
