"""A comparison's numbers for other programs, for the terminal, and as a Markdown table."""

from typing import Any

from rich.table import Table
from rich.text import Text

from unmask.compare.records import LEVELS, Arm, Comparison, Level
from unmask.compare.statistics import Spread


def summary(comparison: Comparison) -> dict[str, Any]:
    """What ``comparison.json`` holds; all ratios are baseline over recipe, so more is faster."""
    return {
        "baseline": comparison.baseline.name,
        "seeds": comparison.seeds,
        "recipes": [_arm(arm, comparison) for arm in comparison.arms],
        "machine": comparison.machine,
        "versions": comparison.versions,
    }


def _arm(arm: Arm, comparison: Comparison) -> dict[str, Any]:
    result, difference = arm.result, arm.result.difference
    numbers = {
        "levels": [_level(level) for level in result.levels],
        "final_nelbo": result.nelbo,
        "final_stderr": result.stderr,
        "final_difference": difference
        and {
            "value": difference.mean,
            "ci_low": difference.low,
            "ci_high": difference.high,
            "evaluation_stderr": result.difference_stderr,
        },
    }
    if comparison.blocks != "all":
        numbers["choosing_nelbo"] = result.other_nelbo
    return {
        "name": arm.name,
        "recipe": arm.spec,
        "folder": arm.folder.name,
        "group": arm.group,
        "causal": arm.causal,
        "runs": [{"seed": run.seed, "state": run.state} for run in arm.runs],
        **numbers,
    }


def _level(level: Level) -> dict[str, Any]:
    values = {
        "percent": level.percent,
        "nelbo": level.nelbo,
        "steps_ratio": level.steps.mean,
        "seconds_ratio": level.seconds.mean,
        "ci_low": level.steps.low,
        "ci_high": level.steps.high,
        "seconds_ci_low": level.seconds.low,
        "seconds_ci_high": level.seconds.high,
        "reached": level.steps.mean is not None,
        "seeds_reached": level.steps.known,
    }
    if (flops := level.flops) is not None:
        values |= {
            "flops_ratio": flops.mean,
            "flops_ci_low": flops.low,
            "flops_ci_high": flops.high,
        }
    return values


def summary_table(comparison: Comparison) -> Table:
    """The speed-ups as a table for the terminal."""
    n = len(comparison.seeds)
    seeds = f"{n} seeds, 95% interval" if n > 1 else "one seed: no interval"
    blocks = "" if comparison.blocks == "all" else f", {comparison.blocks} validation blocks"
    table = Table(
        title=f"speed-up over {comparison.baseline.name} at the NELBO it has at ...% of its steps; "
        f"{seeds}{blocks}",
        title_justify="left",
    )
    table.add_column("recipe", overflow="fold", min_width=9)
    for percent in LEVELS:
        table.add_column(f"{percent}%", justify="right", no_wrap=percent < 100)
    for heading in ("in seconds", "final NELBO", "difference"):
        table.add_column(heading, justify="right")
    for arm in comparison.arms:
        result = arm.result
        name = Text(arm.name.replace("+", "\n+"))  # each of its options on a line of its own
        if not result.levels:
            table.add_row(name, *[""] * (len(LEVELS) + 1), _states(arm), "")
            continue
        *lower, last = result.levels
        error = "" if result.stderr is None else f"\n± {result.stderr:.4f}"
        table.add_row(
            name,
            *(_times(level.steps.mean) for level in lower),
            _with_interval(last.steps, "\n"),
            _with_interval(last.seconds, "\n"),
            f"{result.nelbo:.4f}{error}",
            "" if arm is comparison.baseline else _difference(arm),
        )
    return table


def plain_table(comparison: Comparison) -> str:
    """The speed-ups at the baseline's last bound and the bounds themselves, in Markdown."""
    base = comparison.baseline.name
    seeds = f"{len(comparison.seeds)} seeds, 95% interval"
    if len(comparison.seeds) == 1:
        seeds = "one seed: no interval"
    heads = ["recipe", f"times fewer steps than `{base}` ({seeds})", "final NELBO (nats per token)"]
    rows = [heads, ["---"] * len(heads)]
    for arm in comparison.arms:
        result = arm.result
        ratio = _with_interval(result.levels[-1].steps, " ") if result.levels else _states(arm)
        bound = "" if result.nelbo is None else f"{result.nelbo:.4f}"
        rows.append([f"`{arm.name}`", ratio, bound])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def halves_table(comparison: Comparison) -> str:
    """Arms chosen on one half of the validation blocks and reported on the other, in Markdown.

    The arm that is best of many on some blocks is partly the luckiest on them. So the other half of
    the blocks sorts (its column is "choosing"), and all other columns are of the comparison's own
    half: the difference from the baseline with its standard error over blocks, and speed-ups at
    the NELBO that the baseline has at 50 and 100% of its steps, the last one in seconds too, which
    is only worth something on a machine with nothing else to do.
    """
    heads = ["recipe", "NELBO, choosing", "NELBO, reporting", "difference", "at 50%", "at 100%"]
    heads += ["in seconds", "changes", "seeds"]
    ranked = sorted(comparison.arms, key=lambda arm: arm.result.other_nelbo or float("inf"))
    rows = [f"| {' | '.join(row)} |" for row in (heads, *map(_half_row, ranked))]
    return "\n".join([rows[0], "|---" * len(heads) + "|", *rows[1:]])


def _half_row(arm: Arm) -> list[str]:
    result = arm.result
    name = "`" + arm.name.replace("|", r"\|").replace("`", "'") + "`"
    if not result.levels:
        return [name, _states(arm), *[""] * 5, arm.group, "0"]
    levels = {level.percent: level for level in result.levels}
    difference = result.difference
    assert difference is not None  # a half's bound comes from the blocks that give the difference
    return [
        name,
        f"{result.other_nelbo:.3f}",
        f"{result.nelbo:.3f}",
        f"{difference.mean:+.3f} ± {result.difference_stderr:.3f}",
        _with_interval(levels[50].steps, " "),
        _with_interval(levels[100].steps, " "),
        _with_interval(levels[100].seconds, " "),
        arm.group,
        str(len(result.seeds)),
    ]


def _states(arm: Arm) -> str:
    return ", ".join(f"seed {run.seed} {run.state}" for run in arm.runs)


def _difference(arm: Arm) -> str:
    """The final difference with its interval, and a word where evaluation noise hides it."""
    difference = arm.result.difference
    if difference is None:
        return ""
    text = f"{difference.mean:+.4f}"
    if difference.low is not None:
        text += f"\n[{difference.low:+.4f}, {difference.high:+.4f}]"
    return text + ("\nwithin evaluation noise" if arm.result.within_noise else "")


def _times(ratio: float | None) -> str:
    return "not reached" if ratio is None else f"{ratio:.2f}x"


def _with_interval(ratio: Spread, between: str) -> str:
    interval = "" if ratio.low is None else f"{between}[{ratio.low:.2f}, {ratio.high:.2f}]"
    return _times(ratio.mean) + interval
