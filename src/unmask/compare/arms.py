"""The arms of a comparison: recipes, each perhaps with training options of its own."""

import re
from typing import Any

from unmask.base.errors import UserError
from unmask.config import Config, with_options
from unmask.recipe.parse import AUTO, RECIPES

ALL = "all"
"""In place of a list: every named recipe, ``standard`` first, and ``bell:auto``."""


def folder_name(arm: str) -> str:
    """An arm's name as a folder's: anything unusual in it becomes an underscore."""
    return re.sub(r"[^A-Za-z0-9.=,-]+", "_", arm)


def parse_arms(text: str, base: Config) -> dict[str, Config]:
    """Read ``NAME[:key=value,...][+option=value...],NAME...``.

    A comma separates arms, and the parameters of a recipe too: a part of the form ``key=value``
    belongs to the arm before it.

    Args:
        text: such as ``standard,bell:mean=0.4,std=0.15,bell+train.optimizer=muon``, or ``all``.
        base: the configuration that the arms share.

    Returns:
        Each arm's configuration by its name, the baseline first.

    Raises:
        UserError: an empty list, a name twice, or a recipe or option that is not valid.
    """
    names: list[str] = []
    if text.strip() == ALL:
        text = ",".join([*RECIPES, f"bell:{AUTO}"])
    for part in filter(None, (p.strip() for p in text.split(","))):
        if re.match(r"[\w-]+=", part) and names:
            names[-1] += f",{part}"
        else:
            names.append(part)
    if len(names) < 2:
        raise UserError(
            f"recipes {text!r} must name at least two, the baseline first: standard,bell"
        )
    arms = {name: _parse_arm(name, base) for name in names}
    folders = [folder_name(name) for name in names]
    twice = next((name for name in names if folders.count(folder_name(name)) > 1), None)
    if twice:
        raise UserError(f"recipes has {twice!r} twice")
    return arms


def _parse_arm(name: str, base: Config) -> Config:
    recipe, *options = name.split("+")
    changes: dict[str, Any] = {"recipe": recipe}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise UserError(f"recipes: {option!r} in {name!r} is not of the form option=value")
        changes[key] = value
    try:
        return with_options(base, changes)
    except UserError as error:
        raise UserError(f"recipes {name!r}: {error}") from None
