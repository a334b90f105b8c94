"""What a legend says: its entries for a figure, and as small pictures beside names in a page."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.artist import Artist
from matplotlib.colors import to_hex
from matplotlib.container import Container
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.patches import Patch
from matplotlib.path import Path

from unmask.plot.style import Named, in_page_colours, line_of

Entry = tuple[Artist, str]
"""A handle and its label."""

_WIDTH, _HEIGHT = 34, 12  # of a picture, CSS pixels
_LETTERS = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C"}


def entries_of(arms: Sequence[Named]) -> list[Entry]:
    """The legend's entries of arms."""
    return [(Line2D([], [], **line_of(arm)), arm.name) for arm in arms]


def picture(handle: Artist | Container) -> Markup:
    """A handle of a legend as an element of a page: its line with its marker, or its shade."""
    if isinstance(handle, Container):
        handle = handle[0]
    if isinstance(handle, Line2D):
        inside = _line(handle) + _marker(handle)
    elif isinstance(handle, Patch):
        look = f'fill="{to_hex(handle.get_facecolor())}" fill-opacity="{handle.get_alpha() or 1:g}"'
        inside = f'<rect x="4" y="1" width="{_WIDTH - 8}" height="{_HEIGHT - 2}" {look}/>'
    else:
        raise TypeError(f"a legend has no picture of a {type(handle).__name__}")
    frame = f'<svg class="key" viewBox="0 0 {_WIDTH} {_HEIGHT}" aria-hidden="true">'
    return Markup(in_page_colours(f"{frame}{inside}</svg>"))


def _line(handle: Line2D) -> str:
    if handle.get_linestyle() in ("None", "none", " ", ""):
        return ""
    width = max(handle.get_linewidth(), 1.2)  # a fainter one is not seen
    _, dashes = handle._unscaled_dash_pattern  # type: ignore[attr-defined]
    dashed = f' stroke-dasharray="{" ".join(f"{width * d:g}" for d in dashes)}"' if dashes else ""
    return (
        f'<path d="M1 {_HEIGHT / 2:g}H{_WIDTH - 1}" stroke="{to_hex(handle.get_color())}" '
        f'stroke-width="{width:g}"{dashed} fill="none"/>'
    )


def _marker(handle: Line2D) -> str:
    style = MarkerStyle(handle.get_marker())
    path = style.get_path().transformed(style.get_transform())
    if handle.get_marker() in ("None", "none", " ", "", None):
        return ""
    size = 1.25 * handle.get_markersize()  # points as CSS pixels
    at = np.array([_WIDTH / 2, _HEIGHT / 2])
    drawn = ""
    for points, code in path.iter_segments(simplify=False):
        if code == Path.CLOSEPOLY:
            drawn += "Z"
        else:  # a picture's heights go down
            places = at + size * points.reshape(-1, 2) * (1, -1)
            drawn += _LETTERS[code] + " ".join(f"{value:.1f}" for value in places.flat)
    fill = to_hex(handle.get_markerfacecolor()) if style.is_filled() else "none"
    stroke = to_hex(handle.get_markeredgecolor())
    return f'<path d="{drawn}" fill="{fill}" stroke="{stroke}"/>'
