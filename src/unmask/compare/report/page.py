"""The report of a comparison: one file of HTML that needs nothing else, and its plots."""

from pathlib import Path
from typing import Any

from unmask.base.files import write_whole
from unmask.compare.records import Arm, Blocks, Comparison, RunRecord, load_comparison
from unmask.plot.page import render

_FEWEST = 4  # arms that a leaderboard is made of
_GROUPS = {
    "time": "other mask rates",
    "masks": "other masks",
    "schedule": "changing over training",
    "combined": "other rates and masks",
    "autoregressive": "autoregressive",
    "baseline": "the baseline's recipe",
}


def write_report(folder: Path, baseline: str | None = None, blocks: Blocks = "all") -> Path:
    """Make, or make again, the report of a comparison from its records.

    The same records give the same bytes. Runs that are missing, interrupted or diverged are told.

    Args:
        folder: what ``unmask compare`` wrote; the report goes to ``folder/report``.
        baseline, blocks: as of `load_comparison`.

    Returns:
        The path of ``index.html``; a PNG of every plot lies beside it.

    Raises:
        UserError: as `load_comparison`.
    """
    comparison = load_comparison(folder, baseline, blocks)
    # Here, because matplotlib takes a while and this module is imported by the command line.
    from unmask.compare.report import curves, quality, rates, speedups  # noqa: PLC0415
    from unmask.plot.figure import draw  # noqa: PLC0415
    from unmask.plot.key import entries_of, picture  # noqa: PLC0415

    functions = (
        curves.bound_against_steps,
        curves.bound_against_seconds,
        curves.bound_against_flops,
        speedups.speed_ups,
        rates.cross_entropies,
        rates.densities,
        quality.other_texts,
        quality.generated_texts,
        curves.training_signals,
    )
    path = folder / "report" / "index.html"
    drawn = draw(lambda: (function(comparison) for function in functions), path.parent)
    content = render(
        "compare/report/page.html",
        title=_title(comparison),
        comparison=comparison,
        base=comparison.baseline,
        plots=drawn,
        groups=_groups(comparison),
        looks=[picture(handle) for handle, _ in entries_of(comparison.arms)],
        state_of=_state,
        short=_short,
        number=_number,
        speed_of=_speed,
    )
    write_whole(path, content)
    return path


def _title(comparison: Comparison) -> str:
    others = [arm.name for arm in comparison.arms[1:]]
    compared = " and ".join(others) if len(others) <= 2 else f"{len(others)} recipes"
    return f"{compared} against {comparison.baseline.name}"


def _state(run: RunRecord) -> str:
    """How a run ended, with the step for one that is not done."""
    if run.state in ("done", "no records") or not run.last_step:
        return run.state
    return f"{run.state} after step {run.last_step:,}"


def _groups(comparison: Comparison) -> list[tuple[str, list[Arm]]]:
    """The leaderboard: arms by what they change, the fastest first; empty for few arms."""
    groups: dict[str, list[Arm]] = {}
    for arm in sorted(comparison.arms, key=lambda arm: _rank(arm, comparison)):
        groups.setdefault(arm.group, []).append(arm)
    if len(comparison.arms) < _FEWEST or "" in groups:
        return []
    order = sorted(groups, key=lambda group: (_rank(groups[group][0], comparison), group))
    return [(_GROUPS.get(group, group), groups[group]) for group in order]


def _rank(arm: Arm, comparison: Comparison) -> tuple[float, float]:
    """Less is better: first by speed-up, then by the final bound."""
    ratio = arm.result.levels[-1].steps.mean if arm.result.levels else None
    if arm is comparison.baseline:
        ratio = 1.0
    bound = arm.result.nelbo
    return -(ratio or 0.0), float("inf") if bound is None else bound


def _short(ratio: float) -> str:
    """Two decimals, or two digits where that would be 0.00, and none beyond 100."""
    if ratio < 0.1:
        return f"{ratio:.2g}"
    return f"{ratio:.2f}" if ratio < 100 else f"{ratio:,.0f}"


def _number(value: Any, form: str) -> str:
    return format(value, form) if isinstance(value, int | float) else ""


def _speed(run: RunRecord) -> float | None:
    """Median tokens per second of the training lines."""
    speeds = sorted(r["tokens_per_second"] for r in run.trains if r.get("tokens_per_second"))
    return speeds[len(speeds) // 2] if speeds else None
