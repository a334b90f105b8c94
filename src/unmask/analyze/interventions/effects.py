"""What an intervention changes: differences between recipes with it and without, seed by seed."""

import math
from collections.abc import Sequence
from typing import Any

from unmask.compare.records import Arm, Comparison, Run
from unmask.compare.statistics import Curve, mean_and_half_width, speed_up

LEVELS = (25, 50, 75, 100)
"""Percentages of the baseline's steps at whose NELBO speed-ups are told."""


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean, 95% interval over seeds (Student's t; None for one seed) and the values themselves."""
    mean, half = mean_and_half_width(values)
    low, high = (None, None) if half is None else (mean - half, mean + half)
    return {"values": list(values), "mean": mean, "low": low, "high": high}


def ratio_spread(logs: Sequence[float | None]) -> dict[str, Any]:
    """Geometric mean of ratios with its interval, from their logarithms; None: not reached.

    Where a seed does not reach the level there is no mean: leaving it out would flatter.
    """
    values = [None if x is None else math.exp(x) for x in logs]
    whole = [x for x in logs if x is not None]
    if len(whole) < len(logs):
        return {"values": values, "mean": None, "low": None, "high": None}
    found = spread(whole)
    ends = {k: None if found[k] is None else math.exp(found[k]) for k in ("mean", "low", "high")}
    return {"values": values, **ends}


def effects(with_locality: Comparison, without: Comparison) -> list[dict[str, Any]]:
    """For each recipe but the first: what it is ahead by in both comparisons, and the change.

    Returns:
        For each: ``difference`` (final bound less the baseline's, nats per token) and ``speed_up``
        (steps of the baseline over the recipe's at each of `LEVELS`), each with ``with``,
        ``without`` and ``change``: a difference of differences, a ratio of ratios, paired by seed.
        Only seeds whose runs are done in both comparisons count.
    """
    seeds = common_seeds(with_locality, without)
    found = []
    for a, b in zip(with_locality.arms[1:], without.arms[1:], strict=True):
        pairs = ((with_locality.baseline, a), (without.baseline, b))
        differences = [
            [final(arm, seed) - final(base, seed) for seed in seeds] for base, arm in pairs
        ]
        found.append(
            {
                "recipe": a.name,
                "index": a.index,
                "causal": a.causal,
                "difference": {
                    "with": spread(differences[0]),
                    "without": spread(differences[1]),
                    "change": spread([y - x for x, y in zip(*differences, strict=True)]),
                },
                "speed_up": [_speed_up(pairs, seeds, percent) for percent in LEVELS],
            }
        )
    return found


def common_seeds(*comparisons: Comparison) -> list[int]:
    """The seeds with which every recipe of every comparison is done."""
    done = [{run.seed for run in arm.done} for c in comparisons for arm in c.arms]
    return sorted(set.intersection(*done))


def final(arm: Arm, seed: int) -> float:
    """The last bound of a run, nats per token."""
    return float(_run(arm, seed).evals[-1]["nelbo"])


def _speed_up(
    pairs: tuple[tuple[Arm, Arm], tuple[Arm, Arm]], seeds: list[int], percent: float
) -> dict[str, Any]:
    logs: list[list[float | None]] = []
    for base, arm in pairs:
        ratios = [
            speed_up([_curve(base, seed)], [_curve(arm, seed)], percent)[1].value for seed in seeds
        ]
        logs.append([None if r is None else math.log(r) for r in ratios])
    change = [None if x is None or y is None else y - x for x, y in zip(*logs, strict=True)]
    return {
        "percent": percent,
        "with": ratio_spread(logs[0]),
        "without": ratio_spread(logs[1]),
        "change": ratio_spread(change),
    }


def _run(arm: Arm, seed: int) -> Run:
    return next(run for run in arm.done if run.seed == seed)


def _curve(arm: Arm, seed: int) -> Curve:
    evals = _run(arm, seed).evals
    return Curve(*([r[key] for r in evals] for key in ("step", "seconds", "nelbo")))
