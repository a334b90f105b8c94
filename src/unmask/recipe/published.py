"""Published recipes beside those for every day, each with its source: to add one, add an entry.

Where their text leaves something open or asks for more, some of it is ours:
docs/experiments/2026-11-25-laboratory.md says what.
"""

from unmask.diffusion.masking import OwnOrder
from unmask.diffusion.time import Uniform
from unmask.recipe.objective import Denoising
from unmask.recipe.recipe import Recipe

PUBLISHED = (
    # LLaDA, arXiv 2502.09992.
    Recipe("iid", Denoising(Uniform(), weight="1/t", stratified=False)),
    # arXiv 2602.15014.
    Recipe("flat", Denoising(Uniform())),
    # arXiv 2601.22450.
    Recipe("window", Denoising(Uniform(0.45, 0.55), weight="1/t")),
    # LLaDA 2.0.
    Recipe("bandwidth", Denoising(Uniform(0.3, 0.8), weight="1/t")),
    # BD3-LM, arXiv 2503.09573.
    Recipe("clipped", Denoising(Uniform(), weight="1/t", fit="least-variance-window")),
    # P-POTS, arXiv 2511.18159.
    Recipe("p-pots", Denoising(Uniform(), weight="importance", fit="root-mean-square")),
    # MIRROR, arXiv 2511.18159; LLaDA 2.0.
    Recipe("mirror", Denoising(Uniform(), weight="1/t", paired=True), group="masks"),
    # PUMA, arXiv 2602.10314.
    Recipe("puma", Denoising(Uniform(), OwnOrder(), weight="1/t"), group="masks"),
)
