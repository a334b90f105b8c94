"""The recipes that have a name: to add one, add an entry."""

from unmask.diffusion.time import Full, TruncatedNormal, Uniform
from unmask.recipe.recipe import Recipe


def _narrow() -> TruncatedNormal:
    return TruncatedNormal(mean=0.5, std=0.1)


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("standard", Uniform(), weight="1/t", group="baseline"),
        Recipe("iid", Uniform(), weight="1/t", stratified=False),
        Recipe("flat", Uniform()),
        Recipe("bell", TruncatedNormal(mean=0.5, std=0.2)),
        Recipe("narrow", _narrow()),
        Recipe("bell-weighted", TruncatedNormal(mean=0.5, std=0.2), weight="importance"),
        Recipe("window", Uniform(0.45, 0.55), weight="1/t"),
        Recipe("bandwidth", Uniform(0.3, 0.8), weight="1/t"),
        Recipe("clipped", Uniform(), weight="1/t", fit="least-variance-window"),
        Recipe("p-pots", Uniform(), weight="importance", fit="root-mean-square"),
        Recipe("adaptive", _narrow(), fit="progress"),
        Recipe("mirror", Uniform(), weight="1/t", paired=True, group="masks"),
        Recipe("puma", Uniform(), weight="1/t", masking="own-order", group="masks"),
        Recipe("bell-pairs", _narrow(), paired=True, group="combined"),
        Recipe("bell-spans", _narrow(), masking="spans", group="combined"),
        Recipe("bell-scattered", _narrow(), masking="scattered", group="combined"),
        Recipe("bell-puma", _narrow(), masking="own-order", group="combined"),
        Recipe("bell-anneal", _narrow(), anneal=0.2, group="schedule"),
        Recipe("bell-after-ar", _narrow(), ar_warmup=0.2, group="schedule"),
        Recipe("fast", _narrow(), masking="scattered", ar_warmup=0.2, group="combined"),
        Recipe("ar", Full(), masking="next-token", group="autoregressive"),
    )
}
"""The named recipes. ``bell``'s centre and width are a first guess at the paper's, which we do not
know; ``narrow`` has those that were fastest where we measured (docs/results.md); ``fast`` is what
was fastest of all (docs/laboratory.md)."""
