"""A recipe: what a training run draws, hides and weighs. Data, which the loop never asks about.

objective = parse_recipe("bell:mean=0.4,std=0.15").main
t = objective.rates(stratified(32))                          # (32,) mask rates
mask = objective.masking.mask(t, torch.rand(32, 128), None)  # (32, 128) what is predicted
loss = (objective.weights(t)[rows] * ce).sum() / n_tokens
"""

from unmask.recipe.objective import COMPANIONS, Denoising, NextToken, Objective
from unmask.recipe.parse import AUTO, RECIPES, is_auto, parse_recipe, with_bell
from unmask.recipe.recipe import GROUPS, Portion, Recipe
from unmask.recipe.share import Share

__all__ = [
    "AUTO",
    "COMPANIONS",
    "GROUPS",
    "RECIPES",
    "Denoising",
    "NextToken",
    "Objective",
    "Portion",
    "Recipe",
    "Share",
    "is_auto",
    "parse_recipe",
    "with_bell",
]
