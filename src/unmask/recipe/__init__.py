"""A recipe: what a training run draws, hides and weighs. Data, which the loop never asks about.

recipe = parse_recipe("bell:mean=0.4,std=0.15")
t = recipe.times(seed=0, step=0, slots=torch.arange(32), batch_size=32)    # (32,) mask rates
batch = recipe.corrupt(x, t, u, valid=None, mask_id=tokenizer.mask_id)
loss = (recipe.weights(t)[rows] * ce).sum() / n_tokens
"""

from unmask.recipe.named import RECIPES
from unmask.recipe.parse import AUTO, is_auto, parse_recipe, with_bell
from unmask.recipe.recipe import GROUPS, Recipe

__all__ = ["AUTO", "GROUPS", "RECIPES", "Recipe", "is_auto", "parse_recipe", "with_bell"]
