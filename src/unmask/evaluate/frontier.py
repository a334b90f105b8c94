"""The plot of generative perplexity against entropy over temperatures, from a run's record."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unmask.base.errors import UserError
from unmask.base.files import write_whole
from unmask.evaluate.generative import FRONTIER_FILE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def write_frontier(folder: Path) -> tuple[Path, Path]:
    """Draw the frontier of a run from ``generative/frontier.json`` in its folder.

    Args:
        folder: of the run.

    Returns:
        The PNG and the SVG, beside the record.

    Raises:
        UserError: there is no record, or it is damaged.
    """
    # Here, because matplotlib takes a while and this module is imported by the command line.
    from unmask.plot.figure import Plot, draw  # noqa: PLC0415

    record = folder / FRONTIER_FILE
    points = _read(record)
    title = "Generative perplexity against entropy over temperatures"
    (drawn,) = draw(lambda: [Plot("frontier", title, "", _draw(points))], record.parent)
    png, svg = (record.with_suffix(suffix) for suffix in (".png", ".svg"))
    write_whole(svg, drawn["wide"].encode())
    return png, svg


def _read(path: Path) -> list[dict[str, Any]]:
    """The points that can be drawn, each with its reference, by temperature."""
    try:
        points: list[dict[str, Any]] = json.loads(path.read_text())["points"]
        needed = [
            (p["settings"]["temperature"], p["judge"], part["perplexity"], part["entropy"])
            for p in points
            for part in (p["samples"], p["reference"])
        ]
    except FileNotFoundError:
        raise UserError(f"{path.parent.parent} has no frontier yet: {path} is missing") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged: {error!r}") from error
    if not needed or any(perplexity is None for _, _, perplexity, _ in needed):
        raise UserError(f"{path} holds no points, or one whose perplexity is not finite")
    return sorted(points, key=lambda p: float(p["settings"]["temperature"]))


def _draw(points: list[dict[str, Any]]) -> "Figure":
    """Samples as a line over temperatures, the validation text as a star; bars of 95%."""
    from unmask.plot.style import COLOURS, INK, figure, log_axis  # noqa: PLC0415

    drawing = figure(4.2)
    axes = drawing.subplots()
    samples, reference = [p["samples"] for p in points], points[0]["reference"]
    line = {"color": COLOURS[0], "marker": "o", "linestyle": "-"}
    _bars(axes, samples, label="samples, by temperature", **line)
    star = {"color": INK, "marker": "*", "markersize": 11, "linestyle": "none"}
    _bars(axes, [reference], label="validation text", **star)
    for point in points:
        axes.annotate(
            f"{point['settings']['temperature']:g}",
            (point["samples"]["entropy"], point["samples"]["perplexity"]),
            xytext=(6, -11),
            textcoords="offset points",
            fontsize=8,
        )
    ends = [
        q[key] or q["perplexity"]
        for q in (*samples, reference)
        for key in ("perplexity_low", "perplexity_high")
    ]
    log_axis(axes, min(ends) / 1.1, max(ends) * 1.1)
    axes.set_xlabel("unigram entropy of a text's tokens (nats)")
    axes.set_ylabel("generative perplexity")
    axes.margins(x=0.08)
    first = points[0]
    axes.set_title(
        f"judge {first['judge']}, step {first['checkpoint']}, {first['samples']['texts']} samples "
        f"of {first['settings']['length']} tokens, {first['settings']['steps']} steps",
        loc="left",
    )
    axes.legend(loc="best", fontsize=8.5)
    return drawing


def _bars(axes: "Axes", qualities: list[dict[str, Any]], **look: Any) -> None:
    """Points with their intervals, where there is one."""
    x = [q["entropy"] for q in qualities]
    y = [q["perplexity"] for q in qualities]
    dx = [1.96 * (q["entropy_stderr"] or 0.0) for q in qualities]
    dy = [
        [q["perplexity"] - (q["perplexity_low"] or q["perplexity"]) for q in qualities],
        [(q["perplexity_high"] or q["perplexity"]) - q["perplexity"] for q in qualities],
    ]
    axes.errorbar(x, y, xerr=dx, yerr=dy, elinewidth=0.9, capsize=2, **look)
