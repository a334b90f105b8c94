"""The arms of a comparison: recipes, each perhaps with training options of its own."""

import re
from dataclasses import dataclass
from typing import Any

from unmask.base.errors import UserError
from unmask.config import Config, with_options
from unmask.recipe import AUTO, RECIPES

ALL = "all"
"""In place of a list: every named recipe, ``standard`` first, and ``bell:auto``."""


@dataclass(frozen=True)
class Arm:
    """One of the things compared.

    Attributes:
        name: as the user wrote it, ``standard+train.optimizer=muon``.
        config: its configuration, apart from the seed.
    """

    name: str
    config: Config

    @property
    def folder(self) -> str:
        """The name as a folder's: anything unusual in it becomes an underscore."""
        return re.sub(r"[^A-Za-z0-9.=,-]+", "_", self.name)


def parse_arms(text: str, base: Config) -> list[Arm]:
    """Read ``NAME[:key=value,...][+option=value...],NAME...``.

    A comma separates arms, and the parameters of a recipe too: a part of the form ``key=value``
    belongs to the arm before it.

    Args:
        text: such as ``standard,bell:mean=0.4,std=0.15,bell+train.optimizer=muon``, or ``all``.
        base: the configuration that the arms share.

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
            f"--recipes {text!r} must name at least two, the baseline first: standard,bell"
        )
    arms = [_parse_arm(name, base) for name in names]
    folders = [arm.folder for arm in arms]
    twice = next((arm.name for arm in arms if folders.count(arm.folder) > 1), None)
    if twice:
        raise UserError(f"--recipes names {twice!r} twice")
    return arms


def _parse_arm(name: str, base: Config) -> Arm:
    recipe, *options = name.split("+")
    changes: dict[str, Any] = {"recipe": recipe}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise UserError(f"--recipes: {option!r} in {name!r} is not of the form option=value")
        changes[key] = value
    try:
        return Arm(name, with_options(base, changes))
    except UserError as error:
        raise UserError(f"--recipes {name!r}: {error}") from None
