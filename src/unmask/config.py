"""The whole configuration of a run: the sections of the rooms, presets, YAML."""

import math
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from unmask.base.errors import UserError, shown, unknown
from unmask.base.files import read_utf8, write_whole
from unmask.base.numbers import LARGEST_SEED
from unmask.base.section import Section, nested
from unmask.base.strict_yaml import read_yaml, write_yaml
from unmask.data.config import CorpusConfig
from unmask.model.config import AdaptConfig, ModelConfig
from unmask.train.config import TrainConfig, ValidationConfig


class Config(Section):
    """Everything that decides a run's result, apart from the machine."""

    seed: int = Field(
        0,
        ge=0,
        le=LARGEST_SEED,
        description="of the initial weights, data order, rates and masks",
    )
    recipe: str = Field(
        "fast",
        validate_default=True,
        description="NAME[:key=value,...], e.g. bell:mean=0.4,std=0.15; bell:auto: the bell that "
        "the corpus asks for, computed before training",
    )
    init: str | None = Field(
        None,
        description="pretrained model to start from: a run's folder; the folder or hub name of a "
        "causal or masked language model with safetensors; smollm2; FILE.gguf or NAME:FILE.gguf",
    )
    corpus: CorpusConfig = nested(CorpusConfig)
    model: ModelConfig = nested(ModelConfig)
    adapt: AdaptConfig = nested(AdaptConfig)
    train: TrainConfig = nested(TrainConfig)
    validation: ValidationConfig = nested(ValidationConfig)

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        if "steps" in self.recipe:  # a share at a number of them
            from unmask.recipe.parse import is_auto, parse_recipe  # noqa: PLC0415 - imports torch

            if not is_auto(self.recipe):
                parse_recipe(self.recipe).check_steps(self.train.steps)
        return self

    @model_validator(mode="after")
    def _check_attend(self) -> Self:
        if self.model.late and self.corpus.attend == "document":
            raise ValueError("model.late and corpus.attend document do not go together")
        return self

    @field_validator("recipe")
    @classmethod
    def _write_out(cls, text: str) -> str:
        """Keep the recipe with every parameter named, so that a new default changes no old run.

        ``bell:auto`` stays until the corpus is known (`unmask.run.settle_recipe`).
        """
        # Here, because it imports torch, which showing the help must not.
        from unmask.recipe.parse import is_auto, parse_recipe, with_bell  # noqa: PLC0415

        if is_auto(text):
            parse_recipe(with_bell(text, "mean=0.5,std=0.2"))  # told now if the rest is wrong
            return text
        return parse_recipe(text).spec()


COMPARED = "recipes"
"""Key of a preset beside those of `Config`: the recipes to compare where none are named."""


def preset_names() -> list[str]:
    """The shipped presets: the sizes, smallest first, then those that set no size."""
    presets = _presets()
    return sorted(presets, key=lambda name: (_size(presets[name]), name))


def load_preset(names: str) -> Config:
    """The configuration that a preset, or several joined by commas, stand for.

    Args:
        names: ``tiny``, or ``tiny,laboratory``: a later one counts over an earlier one.

    Raises:
        UserError: no such preset; the valid ones are listed.
    """
    return Config(**_preset_values(names))


def preset_as_shown(names: str) -> Config:
    """`load_preset` for a help text: the recipe as the preset writes it, unchecked."""
    values = _preset_values(names)
    for name, field in Config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            values[name] = field.annotation(**values.get(name, {}))
    return Config.model_construct(**values)


def _preset_values(names: str) -> dict[str, Any]:
    presets = _presets()
    values: dict[str, Any] = {}
    for name in names.split(","):
        if name not in presets:
            raise unknown("preset", name, presets)
        values = _merge(values, presets[name])
    values.pop(COMPARED, None)
    return values


def compared_recipes(names: str) -> str:
    """What ``unmask compare`` compares with a preset, or several joined by commas, by default."""
    presets = _presets()
    said = [presets[name].get(COMPARED) for name in names.split(",") if name in presets]
    return next((str(recipes) for recipes in reversed(said) if recipes), "standard,bell")


@cache
def _presets() -> dict[str, dict[str, Any]]:
    """What each shipped preset sets."""
    folder = resources.files("unmask") / "presets"
    files = [f for f in folder.iterdir() if f.name.endswith(".yaml")]
    return {
        f.name.removesuffix(".yaml"): read_yaml(f.read_text(encoding="utf-8"))[0] for f in files
    }


def load_config(path: Path, base: Config | None = None) -> Config:
    """Read a YAML file over a base configuration (the defaults, or a preset's).

    Raises:
        UserError: the file is missing, not YAML, or holds unknown keys or bad values; all of
            them are named, with their lines.
    """
    text = read_utf8(path)
    try:
        values, lines = read_yaml(text)
    except UserError as error:
        raise UserError(f"the configuration {path}: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"the configuration {path} must hold keys and values, such as 'seed: 0'")
    try:
        return Config(**_merge((base or Config()).model_dump(mode="json"), values))
    except UserError as error:
        problems = [_with_line(text, lines) for text in error.problems]
        raise UserError(f"the configuration {path}: {'; '.join(problems)}") from None


def save_config(config: Config, path: Path) -> None:
    """Write a configuration so that `load_config` gives it back."""
    write_whole(path, write_yaml(config.model_dump(mode="json")).encode())


def with_options(config: Config, options: dict[str, Any]) -> Config:
    """A configuration with some fields replaced, by dotted names as on the command line.

    Args:
        options: ``{"train.batch_size": "16"}``; text is read as in a YAML file.

    Raises:
        UserError: an unknown name or a bad value.
    """
    values = config.model_dump(mode="json")
    for name, value in options.items():
        place = name.replace("-", "_").split(".")
        change = _from_text(value, place) if isinstance(value, str) else value
        for key in reversed(place):
            change = {key: change}
        values = _merge(values, change)
    return Config(**values)


def _from_text(text: str, place: list[str]) -> Any:
    """What an option's text means: itself where the field is text, else what YAML says."""
    kind: Any = Config
    for name in place:
        field = getattr(kind, "model_fields", {}).get(name)
        kind = None if field is None else field.annotation
    if kind in (None, str, str | None):
        return text
    try:
        return read_yaml(text)[0]
    except UserError as error:
        raise UserError(f"{'.'.join(place)}: {shown(text)} is no value: {error}") from None


def _with_line(problem: str, lines: dict[str, int]) -> str:
    """A sentence about a field, with the line of the file that the field stands on."""
    place = problem.removeprefix("unknown key '").partition(" ")[0].rstrip(":;'")
    return f"line {lines[place]}: {problem}" if place in lines else problem


def differences(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
    """Dotted names of the fields in which two configurations differ, with both values."""
    before, after = _flat(old.model_dump()), _flat(new.model_dump())
    return {key: (before[key], after[key]) for key in before if before[key] != after[key]}


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        inner = merged.get(key)
        both = isinstance(inner, dict) and isinstance(value, dict)
        merged[key] = _merge(inner, value) if both else value  # type: ignore[arg-type]
    return merged


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _size(preset: dict[str, Any]) -> float:
    model = preset.get("model")
    return float(model["layers"] * model["width"] ** 2) if model else math.inf
