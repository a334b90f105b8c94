"""Our own recipes, named for what they are built on, and controls.

They were measured in docs/experiments/2026-11-25-laboratory.md.
"""

from unmask.diffusion.masking import OwnOrder, Scattered, Spans
from unmask.diffusion.time import TruncatedNormal
from unmask.recipe.named import FIRST_FIFTH, NARROW
from unmask.recipe.objective import Denoising
from unmask.recipe.recipe import Recipe
from unmask.recipe.share import Share

LABORATORY = (
    Recipe("bell-weighted", Denoising(TruncatedNormal(mean=0.5, std=0.2), weight="importance")),
    Recipe("adaptive", Denoising(NARROW, fit="progress")),
    Recipe("narrow-pairs", Denoising(NARROW, paired=True), group="combined"),
    Recipe("narrow-spans", Denoising(NARROW, Spans()), group="combined"),
    Recipe("narrow-scattered", Denoising(NARROW, Scattered()), group="combined"),
    Recipe("narrow-puma", Denoising(NARROW, OwnOrder()), group="combined"),
    Recipe(
        "narrow-anneal", Denoising(NARROW), {"uniform": Share.parse("0@0.8/1@1")}, group="schedule"
    ),
    Recipe("narrow-after-ar", Denoising(NARROW), {"next-token": FIRST_FIFTH}, group="schedule"),
)
