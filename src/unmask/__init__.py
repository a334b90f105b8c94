"""Train masked diffusion language models fast, see why they are slow, prove the speed-up.

The names here need torch alone, and import it when they are first used; the rooms (`unmask.model`,
`unmask.data`, `unmask.train`, ...) are imported by name.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unmask.base.errors import UserError
    from unmask.convert.auto import register
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
    from unmask.recipe.draw import MaskedBatch, Masker
    from unmask.recipe.parse import RECIPES, parse_recipe
    from unmask.recipe.recipe import Recipe

__version__ = "0.2.0"

__all__ = [
    "MASKINGS",
    "RECIPES",
    "TIME_DISTRIBUTIONS",
    "WEIGHTINGS",
    "Beta",
    "Bound",
    "LogitNormal",
    "MaskedBatch",
    "Masker",
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
    "register",
    "stratified",
]

_FOUND_IN = (
    "unmask.convert.auto",  # before others that have a `register` too
    "unmask.base.errors",
    "unmask.diffusion.bound",
    "unmask.diffusion.masking",
    "unmask.diffusion.objective",
    "unmask.diffusion.sampler",
    "unmask.diffusion.time",
    "unmask.recipe.draw",
    "unmask.recipe.parse",
    "unmask.recipe.recipe",
)


def __getattr__(name: str) -> Any:
    """Import a name when it is first asked for (PEP 562): help needs none, and no torch."""
    if name in __all__:
        for module in map(import_module, _FOUND_IN):
            if hasattr(module, name):
                return globals().setdefault(name, getattr(module, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
