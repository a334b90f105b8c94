"""Plots over the mask rate t: what is hard at which rate, and which rates a recipe draws."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unmask.compare.records import Arm, Comparison, quarters, whole_curve
from unmask.plot.figure import Plot
from unmask.plot.style import (
    Array,
    colour,
    columns,
    heading,
    label_rows,
    line_of,
    mask_rate_axis,
    panels,
    side_by_side,
)
from unmask.recipe.parse import parse_recipe

_BINS = 40
_STEPS_LOOKED_AT = 500


def cross_entropies(comparison: Comparison) -> Plot | None:
    """c(t) of every arm at some moments of training, a panel for each moment."""
    arms = [arm for arm in comparison.arms if _curves(arm)]
    if not arms:
        return None
    moments = quarters(max((s for arm in arms for s, _ in _curves(arm)), key=lambda s: s[-1]))
    drawing, every = side_by_side(len(moments))
    for axes, moment in zip(every, moments, strict=True):
        for arm in arms:
            values = _at(arm, moment)
            if values is not None:
                t = (np.arange(len(values)) + 0.5) / len(values)
                axes.plot(t, values, **line_of(arm, markersize=3.5))
        axes.set_title(f"step {moment:,}")
        mask_rate_axis(axes)
    label_rows(every, "c(t) (nats per masked token)")
    caption = (
        "Mean cross-entropy per masked token of the validation blocks, in 10 bins of the mask "
        "rate, at about 10, 25, 50 and 100% of the training; mean over the seeds that are done. "
        "The area under a curve is the NELBO of all blocks."
    )
    if any(arm.causal for arm in comparison.arms):
        caption += " An autoregressive twin masks nothing and has no such curve."
    return Plot("cross_entropy", "Cross-entropy by mask rate", caption, drawing, arms)


def densities(comparison: Comparison) -> Plot | None:
    """The density that each arm's mask rates have, over the histogram of those it drew."""
    arms = [(arm, drawn) for arm in comparison.arms if (drawn := drawn_rates(arm)) is not None]
    if not arms:
        return None
    drawing, every = panels(len(arms), 3, 1.9, 0.5)
    below = columns(min(3, len(arms)))  # the next row's axes are so many further
    peaks = [max(*drawn.density, *drawn.histogram) for _, drawn in arms]
    shared = max(peaks) <= 4 * min(peaks)
    for number, (axes, (arm, drawn)) in enumerate(zip(every, arms, strict=True)):
        shade: Any = {"color": colour(arm.index), "alpha": 0.28, "linewidth": 0}
        axes.stairs(drawn.histogram, np.linspace(0, 1, _BINS + 1), fill=True, **shade)
        axes.plot(drawn.t, drawn.density, color=colour(arm.index))
        heading(axes, arm.name)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.08 * (max(peaks) if shared else peaks[number]))
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
        if number + below >= len(arms):  # none below it
            axes.set_xlabel("mask rate t")
    label_rows(every, "density")
    caption = (
        "Bars: the mask rates that a recipe's first run drew, over the whole run. Line: the density"
        " that it drew them from; where that changes during the run, its mean over the steps."
    )
    if any(drawn.steps < drawn.of for _, drawn in arms):
        caption += f" Of longer runs, at most {_STEPS_LOOKED_AT} evenly spaced steps are looked at."
    if not shared:
        caption += " The panels have different scales."
    if any(arm.causal for arm in comparison.arms):
        caption += " An autoregressive twin draws none."
    if any(drawn.causal for _, drawn in arms):
        caption += " Neither do the autoregressive steps of a recipe that begins with them."
    if any("fit=" in arm.spec and "fit=none" not in arm.spec for arm in comparison.arms):
        caption += " Recipes that fit their rates while training are left out: rate_mean and "
        caption += "rate_std in their metrics.jsonl tell what they drew."
    return Plot("mask_rates", "Mask rates drawn", caption, drawing)


@dataclass(frozen=True)
class DrawnRates:
    """The mask rates of a run.

    Attributes:
        t, density: the density they are drawn from, mean over the steps that mask.
        histogram: density of the drawn ones, in equal bins of (0, 1).
        steps: how many steps were looked at.
        of: how many the run made.
        causal: whether some of them mask nothing.
    """

    t: Array
    density: Array
    histogram: Array
    steps: int
    of: int
    causal: bool


@dataclass(frozen=True)
class _Drawing:
    """All that the rates of a run follow from."""

    recipe: str
    seed: int
    steps: int
    batch_size: int


def drawn_rates(arm: Arm) -> DrawnRates | None:
    """The rates that an arm's first run drew, made again from its counters.

    None where there is no such run, for the autoregressive twin, and where the rates were fitted to
    what the run met.
    """
    run = next((run for run in arm.runs if run.config is not None and run.last_step), None)
    if run is None or run.config is None:
        return None
    train = run.config.train
    settings = _Drawing(run.config.recipe, run.config.seed, train.steps, train.batch_size)
    return _rates(settings, run.last_step)


@lru_cache(maxsize=64)  # a plot is drawn for each width
def _rates(config: _Drawing, last: int) -> DrawnRates | None:
    grid = (torch.arange(200, dtype=torch.float64) + 0.5) / 200
    looked = range(0, last, -(-last // _STEPS_LOOKED_AT))
    drawn = _drawn(config, looked, grid)
    if not drawn:
        return None
    rates = torch.cat([t for t, _ in drawn])
    return DrawnRates(
        t=grid.numpy(),
        density=torch.stack([density for _, density in drawn]).mean(dim=0).numpy(),
        histogram=(torch.histc(rates, _BINS, 0, 1) * _BINS / len(rates)).double().numpy(),
        steps=len(looked),
        of=last,
        causal=len(drawn) < len(looked),
    )


def _drawn(config: _Drawing, steps: Iterable[int], grid: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The rates and their density on a grid, of each of some steps that masks at rates it knows."""
    recipe, size = parse_recipe(config.recipe), config.batch_size
    if recipe.observers():
        return []
    found = []
    for step in steps:
        portions = recipe.portions(
            seed=config.seed,
            step=step,
            steps=config.steps,
            slots=torch.arange(size),
            batch_size=size,
        )
        masking = [p for p in portions if not p.objective.causal]
        density, share = torch.zeros_like(grid), 0.0
        for objective, start, end in recipe.divided(step, config.steps):
            if (p := objective.density(grid)) is not None:
                density, share = density + (end - start) * p, share + end - start
        if masking:
            found.append((torch.cat([p.t for p in masking]), density / share))
    return found


def _curves(arm: Arm) -> list[tuple[list[int], Array]]:
    """For each finished run: the steps of its evaluations that have c(t), and the values."""
    curves = []
    for run in arm.done:
        records = [r for r in run.evals if r["step"] > 0 and whole_curve(r)]
        records = [r for r in records if len(r["c_t"]) == len(records[0]["c_t"])]
        if records:
            values = np.array([r["c_t"] for r in records], dtype=float)
            curves.append(([r["step"] for r in records], values))
    return curves


def _at(arm: Arm, step: int) -> Array | None:
    """c(t) of an arm at a step, mean over its runs, between two evaluations interpolated.

    None where a run does not go that far, or begins later.
    """
    found = []
    for steps, values in _curves(arm):
        if steps[0] <= step <= steps[-1]:
            found.append([np.interp(step, steps, column) for column in values.T])
    return np.array(found).mean(0) if found else None
