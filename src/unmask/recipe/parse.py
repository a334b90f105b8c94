"""Recipes as text: ``NAME[:key=value,...]``."""

import dataclasses
from dataclasses import replace

from unmask.base.errors import unknown
from unmask.base.spec import build, parse_spec
from unmask.diffusion.time import TIME_DISTRIBUTIONS
from unmask.recipe.named import RECIPES
from unmask.recipe.recipe import Overrides, Recipe


def parse_recipe(text: str) -> Recipe:
    """Read ``NAME[:key=value,...]``: a named recipe with any of its parameters replaced.

    Keys are ``time``, ``weight``, ``masking``, ``stratified``, ``paired``, ``ar_warmup``,
    ``anneal``, ``fit``, and the parameters of the time distribution: ``bell:mean=0.4,std=0.15``,
    ``flat:time=beta,alpha=2,beta=3``.

    Raises:
        UserError: an unknown name, key or value; the valid ones are listed.
    """
    name, options = parse_spec(text)
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    recipe = RECIPES[name]
    own = {f.name: f for f in dataclasses.fields(Overrides)}
    base = dataclasses.asdict(recipe.time)  # type: ignore[call-overload]
    kind = type(recipe.time)
    if (time_name := options.pop("time", None)) is not None:
        if time_name not in TIME_DISTRIBUTIONS:
            raise unknown("time distribution", time_name, TIME_DISTRIBUTIONS)
        if TIME_DISTRIBUTIONS[time_name] is not kind:
            kind, base = TIME_DISTRIBUTIONS[time_name], {}
    parameters = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in options:
        if key not in own and key not in parameters:
            raise unknown(f"option of recipe {name!r}", key, {*own, *parameters, "time"})
    given = {k: v for k, v in options.items() if k in parameters}
    time = build(kind, {**{k: str(v) for k, v in base.items()}, **given}, f"recipe {name!r}")
    current = {k: str(getattr(recipe, k)).lower() for k in own}
    chosen = build(
        Overrides, {**current, **{k: options[k] for k in own if k in options}}, f"recipe {name!r}"
    )
    return replace(recipe, time=time, **dataclasses.asdict(chosen))


AUTO = "auto"
"""In place of a recipe's first parameter: centre and width are computed from the corpus."""


def is_auto(text: str) -> bool:
    """Whether a recipe is written ``NAME:auto[,key=value,...]``."""
    return text.partition(":")[2].partition(",")[0] == AUTO


def with_bell(text: str, bell: str) -> str:
    """A recipe ``NAME:auto[,...]`` with ``bell``, ``mean=...,std=...``, in place of ``auto``."""
    return text.replace(f":{AUTO}", f":{bell}", 1)
