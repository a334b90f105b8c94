"""The summary table of the report, and the sentences that say how to read it."""

from unmask.compare.records import Arm, Comparison, Record
from unmask.compare.report.page import named, state_of
from unmask.plot.html import text


def summary(comparison: Comparison) -> str:
    """Speed-ups, final bounds and differences of all arms, and how to read them."""
    percents = [level["percent"] for arm in comparison.arms for level in arm.levels]
    columns = sorted(set(percents))
    levels = {lv["percent"]: lv["nelbo"] for lv in comparison.baseline.levels}
    heads = "".join(f"<th>{percent:.0f}%{_small(_at(levels, percent))}</th>" for percent in columns)
    rows = "".join(_rows(arm, comparison, columns) for arm in comparison.arms)
    return (
        '<div class="scroll"><table id="summary"><thead><tr><th class="name">recipe</th>'
        f"<th>speed-up</th>{heads}<th>final NELBO<small>nats per token</small></th>"
        "<th>difference<small>to the baseline</small></th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>\n{_reading(comparison)}"
    )


def _at(levels: dict[float, float], percent: float) -> str:
    return f"{levels[percent]:.3f} nats" if percent in levels else ""


def _small(words: str) -> str:
    return f"<small>{words}</small>" if words else ""


def _rows(arm: Arm, comparison: Comparison, columns: list[float]) -> str:
    """Two rows: steps and seconds."""
    baseline = arm is comparison.baseline
    states = "; ".join(f"seed {r.seed} {state_of(r)}" for r in arm.runs if not r.done)
    notes = _small("baseline" if baseline else "")
    if states:
        notes += f'<small class="warn">{text(states)}</small>'
    seeds = {r.seed for r in arm.done} & {r.seed for r in comparison.baseline.done}
    cells = []
    for unit in ("steps", "seconds"):
        ratios = {lv["percent"]: ratio_cell(lv, unit, baseline, len(seeds)) for lv in arm.levels}
        row = "".join(f"<td>{ratios.get(p, '')}</td>" for p in columns)
        cells.append(f'<td class="unit">in {unit}</td>{row}')
    return (
        f'<tr class="first"><th class="name" rowspan="2">{named(arm)}{notes}</th>{cells[0]}'
        f'<td rowspan="2">{final_cell(arm)}</td>'
        f'<td rowspan="2">{"" if baseline else difference_cell(arm)}</td></tr>'
        f"<tr>{cells[1]}</tr>"
    )


def ratio_cell(level: Record, unit: str, baseline: bool, seeds: int) -> str:
    """A speed-up at a level in ``steps`` or ``seconds``, with its interval over seeds."""
    value = level[f"{unit}_ratio"]
    if value is None:
        some = level["seeds_reached"]
        return "not reached" + _small(f"{some} of {seeds} seeds did" if some else "")
    if baseline:
        return "1"
    prefix = "" if unit == "steps" else "seconds_"
    low, high = level[f"{prefix}ci_low"], level[f"{prefix}ci_high"]
    interval = "" if low is None else f"{_short(low)}–{_short(high)}"
    return f"<b>{_short(value)}×</b>{_small(interval)}"


def _short(ratio: float) -> str:
    """Two decimals, or two digits where that would be 0.00, and none beyond 100."""
    if ratio < 0.1:
        return f"{ratio:.2g}"
    return f"{ratio:.2f}" if ratio < 100 else f"{ratio:,.0f}"


def final_cell(arm: Arm) -> str:
    """An arm's last bound with its standard error."""
    value, error = arm.final["final_nelbo"], arm.final["final_stderr"]
    if value is None:
        return "none done"
    return f"{value:.4f}" + _small("" if error is None else f"± {error:.4f}")


def difference_cell(arm: Arm) -> str:
    """Its difference to the baseline, with the interval over seeds."""
    difference = arm.final["final_difference"]
    if difference is None:
        return ""
    value, low = difference["value"], difference["ci_low"]
    said = f"{value:+.4f}"
    if low is not None:
        said += _small(f"{low:+.4f} to {difference['ci_high']:+.4f}")
    if abs(value) < 2 * difference["evaluation_stderr"]:
        said += _small("within evaluation noise")
    return said


def _reading(comparison: Comparison) -> str:
    name = text(comparison.baseline.name)
    if not any(arm.levels for arm in comparison.arms):
        return f'<p class="warn">No speed-up can be told: {name} has no run that is done.</p>'
    first = (
        f"How to read it: a speed-up of 2× at the 50% level means that the recipe reaches the "
        f"NELBO that {name} has at half of its steps in half as many steps (or training seconds) "
        f"as {name} needs. <i>Not reached</i>: not within the recipe's own run, for at least one "
        "seed; nothing is extrapolated."
    )
    if len(comparison.seeds) > 1:
        second = (
            "A ratio is the geometric mean over the seeds where both runs are done; below it the "
            "95% interval over seeds (Student's t on its logarithm)."
        )
    else:
        second = (
            "One seed: there is no interval, and another seed may give another number; treat "
            "these as leads."
        )
    third = (
        "The ± of a NELBO is the standard error from the choice of validation blocks; recipes "
        "share the blocks, so a difference is known better than that. <i>Within evaluation "
        "noise</i>: less than two standard errors of the paired difference."
    )
    return f"<p>{first}</p>\n<p>{second}</p>\n<p>{third}</p>"
