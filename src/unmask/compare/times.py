"""The mask rates of an arm: the density it draws from, and a histogram of what was drawn."""

from typing import Any

import torch

from unmask.config import Config
from unmask.recipe import parse_recipe

_BINS = 40
_STEPS_LOOKED_AT = 500


def drawn_times(config: Config) -> dict[str, list[float]] | None:
    """Density of t on a grid, and the histogram of the rates of up to 500 steps of a run.

    Both are of the whole run. Counters make the rates again, exactly as the run drew them. None for
    what is only trained causally, and where the rates were fitted to what the run met.
    """
    recipe = parse_recipe(config.recipe)
    if recipe.causal or recipe.observers():
        return None
    grid = (torch.arange(200, dtype=torch.float64) + 0.5) / 200
    size, last = config.train.batch_size, config.train.steps
    slots = torch.arange(size)
    steps = range(0, last, -(-last // _STEPS_LOOKED_AT))
    portions = [
        portion
        for step in steps
        for portion in recipe.portions(
            seed=config.seed, step=step, steps=last, slots=slots, batch_size=size
        )
    ]
    rates = [portion.t for portion in portions if not portion.objective.causal]
    if not rates:
        return None
    t = torch.cat(rates)
    density, total = torch.zeros_like(grid), 0.0
    for step in steps:
        for objective, start, end in recipe.divided(step, last):
            p = objective.density(grid)
            if p is not None:
                density += (end - start) * p
                total += end - start
    histogram = torch.histc(t, _BINS, 0, 1) * _BINS / len(t)
    return {
        "t": grid.tolist(),
        "density": (density / total).tolist(),
        "histogram": histogram.tolist(),
    }


def all_times(configs: dict[str, Config]) -> dict[str, Any]:
    """`drawn_times` of every arm by name."""
    return {name: drawn_times(config) for name, config in configs.items()}
