"""A figure, and what is said about it."""

from dataclasses import dataclass

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Plot:
    """A figure and what is said about it.

    Attributes:
        name: of its file, and of its ids in the page.
        title: of its section in the page.
        caption: plain sentences, not escaped.
        figure: what is drawn.
    """

    name: str
    title: str
    caption: str
    figure: Figure
