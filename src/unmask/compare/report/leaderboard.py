"""The arms of a comparison by what they change, the fastest of each group first."""

from unmask.compare.records import Arm, Comparison
from unmask.compare.report.page import named
from unmask.compare.report.tables import difference_cell, final_cell, ratio_cell
from unmask.plot.html import text

_FEWEST = 4
_UNITS = ("steps", "seconds")
_TITLES = {
    "time": "other mask rates",
    "masks": "other masks",
    "schedule": "changing over training",
    "combined": "other rates and masks",
    "autoregressive": "autoregressive",
    "baseline": "the baseline's recipe",
}


def leaderboard(comparison: Comparison) -> str:
    """A table with a block for each group; empty for fewer than four arms, or without groups."""
    groups: dict[str, list[Arm]] = {}
    for arm in comparison.arms:
        groups.setdefault(arm.group, []).append(arm)
    if len(comparison.arms) < _FEWEST or "" in groups:
        return ""
    order = sorted(groups, key=lambda group: (_best(groups[group], comparison), group))
    blocks = "".join(_block(group, groups[group], comparison) for group in order)
    base = text(comparison.baseline.name)
    return (
        "<h2>Leaderboard</h2>\n"
        '<div class="scroll"><table id="leaderboard"><thead><tr><th class="name">recipe</th>'
        "<th>in steps</th><th>in seconds</th><th>final NELBO<small>nats per token</small></th>"
        f"<th>difference</th><th>seeds</th></tr></thead>{blocks}</table></div>\n"
        f'<p class="faint">Speed-ups at the NELBO that {base} has at its end. Groups, and recipes '
        "in a group, by speed-up in steps; those that do not get there last, by NELBO.</p>"
    )


def _block(group: str, arms: list[Arm], comparison: Comparison) -> str:
    ranked = sorted(arms, key=lambda arm: _rank(arm, comparison))
    title = text(_TITLES.get(group, group))
    head = f'<tr class="first"><th class="name" colspan="6">{title}</th></tr>'
    return f"<tbody>{head}{''.join(_row(arm, comparison) for arm in ranked)}</tbody>"


def _row(arm: Arm, comparison: Comparison) -> str:
    baseline = arm is comparison.baseline
    seeds = {run.seed for run in arm.done} & {run.seed for run in comparison.baseline.done}
    last = arm.levels[-1] if arm.levels else None
    ratios = [ratio_cell(last, unit, baseline, len(seeds)) if last else "" for unit in _UNITS]
    cells = [*ratios, final_cell(arm), "" if baseline else difference_cell(arm), str(len(seeds))]
    row = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr><th class="name">{named(arm)}</th>{row}</tr>'


def _rank(arm: Arm, comparison: Comparison) -> tuple[float, float]:
    """Less is better: first by speed-up, then by the final bound."""
    ratio = arm.levels[-1]["steps_ratio"] if arm.levels else None
    if arm is comparison.baseline:
        ratio = 1.0
    bound = arm.final["final_nelbo"]
    return -(ratio or 0.0), float("inf") if bound is None else bound


def _best(arms: list[Arm], comparison: Comparison) -> tuple[float, float]:
    return min(_rank(arm, comparison) for arm in arms)
