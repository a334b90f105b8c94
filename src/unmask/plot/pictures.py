"""Plots as files and as sections of a page. Imports matplotlib, so import it only to draw."""

from collections.abc import Callable, Iterable
from pathlib import Path

from unmask.base.files import write_whole
from unmask.plot.figure import Plot
from unmask.plot.html import plot_section, text
from unmask.plot.style import as_png, as_svg, settings


def sections(draw: Callable[[], Iterable[Plot | None]], folder: Path) -> list[str]:
    """Draw plots in the common style: each a PNG in the folder, and a section with its SVG.

    Args:
        draw: makes the plots; None where there is nothing to draw.
        folder: where the pictures go.
    """
    made = []
    with settings():
        for plot in filter(None, draw()):
            write_whole(folder / f"{plot.name}.png", as_png(plot.figure))
            svg = as_svg(plot.figure, plot.name, text(plot.title))
            made.append(plot_section(plot.title, plot.name, svg, plot.caption))
    return made
