"""From the folder of a comparison or a study to its page."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from unmask.files import write_whole
from unmask.report.records import load_comparison

if TYPE_CHECKING:
    from unmask.report.curves import Plot


def write_report(folder: Path) -> Path:
    """Make, or make again, the report of a comparison from its records.

    The same records give the same bytes. Runs that are missing, interrupted or diverged are told.

    Args:
        folder: what ``unmask compare`` wrote; the report goes to ``folder/report``.

    Returns:
        The path of ``index.html``; a PNG of every plot lies beside it.

    Raises:
        UserError: there is no ``comparison.json``, or it is damaged.
    """
    comparison = load_comparison(folder)
    # Here, because matplotlib takes a while and this module is imported by the command line.
    from unmask.report import curves, quality, rates, speedups  # noqa: PLC0415
    from unmask.report.page import page  # noqa: PLC0415
    from unmask.report.style import settings  # noqa: PLC0415
    from unmask.report.tables import summary  # noqa: PLC0415

    draw = (
        curves.bound_against_steps,
        curves.bound_against_seconds,
        speedups.speed_ups,
        rates.cross_entropies,
        rates.densities,
        quality.other_texts,
        quality.generated_texts,
        curves.training_signals,
    )
    report = folder / "report"
    with settings():
        sections = _sections((function(comparison) for function in draw), report)
    path = report / "index.html"
    content = page(comparison, sections, summary(comparison))
    write_whole(path, content.encode("utf-8", "replace"))
    return path


def write_locality(folder: Path) -> Path:
    """Make the page of a study of locality from its record, ``locality.json``.

    Returns:
        The path of ``index.html`` in the same folder; a PNG of every plot lies beside it.

    Raises:
        UserError: there is no record, or it is damaged.
    """
    from unmask.report.locality import load_locality, locality_page, plots  # noqa: PLC0415
    from unmask.report.style import settings  # noqa: PLC0415

    record = load_locality(folder)
    with settings():
        sections = _sections(plots(record), folder)
    path = folder / "index.html"
    write_whole(path, locality_page(record, sections).encode("utf-8", "replace"))
    return path


def _sections(plots: "Iterable[Plot | None]", folder: Path) -> list[str]:
    """Each plot as a picture in the folder, and as a section of the page."""
    from unmask.report.page import plot_section, text  # noqa: PLC0415
    from unmask.report.style import as_png, as_svg  # noqa: PLC0415

    sections = []
    for plot in filter(None, plots):
        write_whole(folder / f"{plot.name}.png", as_png(plot.figure))
        svg = as_svg(plot.figure, plot.name, text(plot.title))
        sections.append(plot_section(plot.title, plot.name, svg, plot.caption))
    return sections
