"""The recipes for every day."""

from unmask.diffusion.masking import Scattered
from unmask.diffusion.time import TruncatedNormal, Uniform
from unmask.recipe.objective import Denoising, NextToken
from unmask.recipe.recipe import Recipe
from unmask.recipe.share import Share

NARROW = TruncatedNormal(mean=0.5, std=0.1)
"""The bell that was fastest where we measured (docs/experiments/2026-11-25-results.md)."""
FIRST_FIFTH = Share.parse("1@0.2/0@0.2")

EVERYDAY = (
    # The bound itself.
    Recipe("standard", Denoising(Uniform(), weight="1/t"), group="baseline"),
    # Hong et al., arXiv 2605.13026. Centre and width are a first guess at theirs.
    Recipe("bell", Denoising(TruncatedNormal(mean=0.5, std=0.2))),
    Recipe("narrow", Denoising(NARROW)),
    # What was fastest of all (docs/experiments/2026-11-25-laboratory.md), and the default.
    Recipe("fast", Denoising(NARROW, Scattered()), {"next-token": FIRST_FIFTH}, group="combined"),
    # The autoregressive twin: the same network, causal.
    Recipe("ar", NextToken(), group="autoregressive"),
)
