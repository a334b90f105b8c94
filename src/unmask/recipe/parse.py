"""Recipes as text: ``NAME[:key=value,...]``."""

from dataclasses import replace

from unmask.base.errors import UserError, unknown
from unmask.base.spec import format_spec, parse_spec
from unmask.recipe.laboratory import LABORATORY
from unmask.recipe.named import EVERYDAY
from unmask.recipe.objective import COMPANIONS
from unmask.recipe.old import in_new_words
from unmask.recipe.published import PUBLISHED
from unmask.recipe.recipe import Recipe
from unmask.recipe.share import Share

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe for recipe in (*EVERYDAY, *PUBLISHED, *LABORATORY)
}
"""The recipes by name."""


def parse_recipe(text: str) -> Recipe:
    """Read ``NAME[:key=value,...]``: a named recipe with any of its parameters replaced.

    Keys are ``time`` and the parameters of the time distribution, ``masking`` and those of the
    masking, ``weight``, ``stratified``, ``paired`` and ``fit``, all of the main objective; ``mix``;
    and each name in `COMPANIONS`, whose value is a `Share`: ``bell:mean=0.4,std=0.15``,
    ``flat:time=beta,alpha=2,beta=3``, ``bell:masking=scattered,neighbours=-0.9``,
    ``bell:next-token=1@0.2/0@0.2``.

    Raises:
        UserError: an unknown name, key or value; the valid ones are listed.
    """
    name, options = in_new_words(*parse_spec(text))
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    recipe, kind = RECIPES[name], f"recipe {name!r}"
    if recipe.causal:
        return replace(recipe, main=recipe.main.changed(options, kind))
    shares = dict(recipe.shares)
    for companion in COMPANIONS:
        if companion in options:
            try:
                shares[companion] = Share.parse(options.pop(companion))
            except UserError as error:
                raise UserError(f"{kind}: {companion}: {error}") from None
    shares = {key: share for key, share in shares.items() if share != Share.parse("0")}
    mix = options.pop("mix", recipe.mix)
    return replace(recipe, main=recipe.main.changed(options, kind), shares=shares, mix=mix)


def short_spelling(text: str) -> str:
    """A recipe without the parameters that its name alone stands for.

    ``bell:mean=0.4,...`` with every parameter written out becomes ``bell:mean=0.4``.

    Raises:
        UserError: as `parse_recipe`.
    """
    recipe = parse_recipe(text).spec()
    name, options = parse_spec(recipe)
    for key in list(options):
        fewer = {k: value for k, value in options.items() if k != key}
        try:
            same = parse_recipe(format_spec(name, fewer)).spec() == recipe
        except UserError:  # another parameter is one of what this one chooses
            same = False
        if same:
            options = fewer
    return format_spec(name, options)


AUTO = "auto"
"""In place of a recipe's first parameter: centre and width are computed from the corpus."""


def is_auto(text: str) -> bool:
    """Whether a recipe is written ``NAME:auto[,key=value,...]``."""
    return text.partition(":")[2].partition(",")[0] == AUTO


def with_bell(text: str, bell: str) -> str:
    """A recipe ``NAME:auto[,...]`` with ``bell``, ``mean=...,std=...``, in place of ``auto``."""
    return text.replace(f":{AUTO}", f":{bell}", 1)
