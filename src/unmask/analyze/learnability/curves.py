"""The curves c(t) of a comparison from its records, split at the lowest ever measured.

c(t) = c*(t) + reducible(t), with c* the data's conditional entropy at mask rate t. c* is not known,
but no model is below it, so the lowest c(t) ever measured, bin by bin, bounds it from above; what a
model has above that lowest curve bounds its reducible error from below.
"""

import math
from collections.abc import Sequence

from unmask.analyze.page import Record
from unmask.base.errors import UserError
from unmask.compare.records import Arm, Comparison, whole_curve


def curves_record(comparison: Comparison) -> Record:
    """c(t), its reducible part and where that sits, by step and recipe (means over seeds).

    The lowest curve is the least value of each bin over every recipe, seed and step. They are all
    measured on the same blocks and masks, so the evaluation's noise is common to them. A perfect
    denoiser's c(t) has the text's entropy as its area (the chain rule in every order), so the exact
    likelihood of an autoregressive twin bounds the irreducible area too: ``learnable`` is what a
    recipe has above the lower of the two, in nats per token.

    Raises:
        UserError: no finished run has a whole curve.
    """
    arms = [arm for arm in comparison.arms if arm.done and not arm.causal]
    measured = [
        (record["c_t"], arm.name, run.seed, record["step"])
        for arm in arms
        for run in arm.done
        for record in run.evals
        if whole_curve(record)
    ]
    if not measured:
        raise UserError(
            "no evaluation of the comparison has a c(t) for every bin: more validation.blocks or "
            "validation.draws give one"
        )
    lowest = lowest_curve([curve for curve, *_ in measured])
    sources = []
    for bin, least in enumerate(lowest):
        _, name, seed, step = next(m for m in measured if m[0][bin] == least)
        sources.append({"recipe": name, "seed": seed, "step": step})
    n = len(lowest)
    twins = [arm for arm in comparison.arms if arm.causal and arm.done]
    likelihood = min(map(_least_bound, twins), default=math.inf)
    return {
        "t": [(k + 0.5) / n for k in range(n)],
        "lowest": lowest,
        "lowest_from": sources,
        "lowest_area": area(lowest),
        "recipes": [_of_arm(arm, lowest, likelihood) for arm in arms],
        "causal": [
            {"name": arm.name, "index": arm.index, "nelbo": _least_bound(arm)} for arm in twins
        ],
    }


def _of_arm(arm: Arm, lowest: list[float], likelihood: float) -> Record:
    """One recipe at the steps where every finished seed has a whole curve."""
    by_step = [{r["step"]: r for r in run.evals if whole_curve(r)} for run in arm.done]
    steps = sorted(set.intersection(*(set(records) for records in by_step)))
    curves = [_mean([records[step]["c_t"] for records in by_step]) for step in steps]
    left = [reducible(curve, lowest) for curve in curves]
    nelbo = [_mean([[records[step]["nelbo"]] for records in by_step])[0] for step in steps]
    areas = [area(curve) for curve in left]
    return {
        "name": arm.name,
        "index": arm.index,
        "seeds": [run.seed for run in arm.done],
        "steps": steps,
        "nelbo": nelbo,
        "c_t": curves,
        "nelbo_share": [shares(curve) for curve in curves],
        "reducible": left,
        "reducible_area": areas,
        "learnable": [max(a, b - likelihood) for a, b in zip(areas, nelbo, strict=True)],
        "reducible_share": [shares(curve) for curve in left],
    }


def _mean(rows: list[list[float]]) -> list[float]:
    return [sum(column) / len(column) for column in zip(*rows, strict=True)]


def _least_bound(arm: Arm) -> float:
    return min(float(record["nelbo"]) for run in arm.done for record in run.evals)


def lowest_curve(curves: Sequence[Sequence[float]]) -> list[float]:
    """The least value in each bin over curves of equally many bins (nats per masked token)."""
    return [min(values) for values in zip(*curves, strict=True)]


def reducible(curve: Sequence[float], lowest: Sequence[float]) -> list[float]:
    """What a curve has above the lowest one, bin by bin: at least 0 where it is among those."""
    return [value - least for value, least in zip(curve, lowest, strict=True)]


def area(curve: Sequence[float]) -> float:
    """Integral over t in (0, 1) of a curve given by its means in equal bins: of c(t), the NELBO."""
    return sum(curve) / len(curve)


def shares(curve: Sequence[float]) -> list[float] | None:
    """The part of a curve's area that lies in each bin; None where there is no area."""
    total = sum(curve)
    return [value / total for value in curve] if total > 0 else None


def heaviest_range(parts: Sequence[float], least: float) -> tuple[int, int]:
    """The shortest run of bins that together hold at least a part of the whole.

    Args:
        parts: non-negative, summing to 1.
        least: in (0, 1].

    Returns:
        First and last bin; of several equally short runs the one that holds most.
    """
    n = len(parts)
    for length in range(1, n + 1):
        sums = [sum(parts[start : start + length]) for start in range(n - length + 1)]
        if max(sums) >= least - 1e-12:
            start = sums.index(max(sums))
            return start, start + length - 1
    return 0, n - 1
