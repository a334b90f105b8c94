"""The mask rates of an arm: the density it draws from, and a histogram of what was drawn."""

from typing import Any

import torch

from unmask.config import Config
from unmask.recipe import parse_recipe

_BINS = 40
_STEPS_LOOKED_AT = 500


def drawn_times(config: Config) -> dict[str, list[float]] | None:
    """Density of t on a grid, and the histogram of the rates of up to 500 steps of a run.

    Counters make the rates again, exactly as the run drew them. None for the autoregressive twin,
    and where the rates were fitted to what the run met.
    """
    recipe = parse_recipe(config.recipe)
    if recipe.causal or recipe.fitted:
        return None
    grid = (torch.arange(200, dtype=torch.float64) + 0.5) / 200
    size = config.train.batch_size
    slots = torch.arange(size)
    steps = range(0, config.train.steps, -(-config.train.steps // _STEPS_LOOKED_AT))
    phases = [(step, recipe.at(step, config.train.steps)) for step in steps]
    t = torch.cat(
        [
            phase.times(seed=config.seed, step=step, slots=slots, batch_size=size)
            for step, phase in phases
            if not phase.causal
        ]
    )
    histogram = torch.histc(t, _BINS, 0, 1) * _BINS / len(t)
    return {
        "t": grid.tolist(),
        "density": recipe.drawn.pdf(grid).tolist(),
        "histogram": histogram.tolist(),
    }


def all_times(configs: dict[str, Config]) -> dict[str, Any]:
    """`drawn_times` of every arm by name."""
    return {name: drawn_times(config) for name, config in configs.items()}
