"""From a comparison's folder to its report."""

from pathlib import Path

from unmask.base.files import write_whole
from unmask.compare.records import load_comparison


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
    from unmask.compare.report import curves, quality, rates, speedups  # noqa: PLC0415
    from unmask.compare.report.leaderboard import leaderboard  # noqa: PLC0415
    from unmask.compare.report.page import page  # noqa: PLC0415
    from unmask.compare.report.tables import summary  # noqa: PLC0415
    from unmask.plot.pictures import sections  # noqa: PLC0415

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
    drawn = sections(lambda: (function(comparison) for function in draw), report)
    path = report / "index.html"
    content = page(comparison, drawn, summary(comparison) + leaderboard(comparison))
    write_whole(path, content.encode("utf-8", "replace"))
    return path
