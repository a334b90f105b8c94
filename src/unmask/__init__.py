"""Train masked diffusion language models fast, see why they are slow, prove the speed-up.

The names here need torch alone, and import it when they are first used; the rooms (`unmask.model`,
`unmask.data`, `unmask.train`, ...) are imported by name.
"""

from typing import TYPE_CHECKING

from unmask.base.front import on_demand

if TYPE_CHECKING:
    from unmask.base.errors import UserError
    from unmask.diffusion.bound import Bound, exact_nll, nelbo_from_draws
    from unmask.diffusion.masking import MASKINGS
    from unmask.diffusion.objective import WEIGHTINGS, predicted_cross_entropy, predicted_loss
    from unmask.diffusion.sampler import ancestral, left_to_right
    from unmask.diffusion.time import (
        TIME_DISTRIBUTIONS,
        Beta,
        LogitNormal,
        TimeDistribution,
        TruncatedNormal,
        Uniform,
        stratified,
    )
    from unmask.recipe import RECIPES, Recipe, parse_recipe

__version__ = "0.1.0"

__all__ = [
    "MASKINGS",
    "RECIPES",
    "TIME_DISTRIBUTIONS",
    "WEIGHTINGS",
    "Beta",
    "Bound",
    "LogitNormal",
    "Recipe",
    "TimeDistribution",
    "TruncatedNormal",
    "Uniform",
    "UserError",
    "ancestral",
    "exact_nll",
    "left_to_right",
    "nelbo_from_draws",
    "parse_recipe",
    "predicted_cross_entropy",
    "predicted_loss",
    "stratified",
]

__getattr__ = on_demand(
    __name__,
    "base.errors",
    "diffusion.time",
    "diffusion.masking",
    "diffusion.objective",
    "diffusion.bound",
    "diffusion.sampler",
    "recipe",
)
