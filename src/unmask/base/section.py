"""The base of every section of the configuration: frozen, strictly typed, told off in one line."""

from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unmask.base.errors import UserError, shown, unknown


class Section(BaseModel):
    """A part of the configuration; unknown keys and bad values raise `UserError`.

    A bool is no number, text is no number, and no number is infinite or NaN.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise UserError(*_problems(error, type(self))) from None


S = TypeVar("S", bound=Section)


def nested(kind: type[S]) -> Any:
    """A field that is a section, with its defaults; its docstring is the field's description.

    Without one, the help's parser would read and parse the source for it, which takes a while.
    """
    return Field(kind(), description=kind.__doc__)


def _problems(error: ValidationError, section: type[BaseModel]) -> list[str]:
    """One sentence for each thing that is wrong, with the field's place in the configuration."""
    sentences = []
    for problem in error.errors(include_url=False):
        place = ".".join(str(part) for part in problem["loc"])
        cause = problem.get("ctx", {}).get("error")
        if problem["type"] == "extra_forbidden":
            sentences.append(str(unknown("key", place, section.model_fields, _below(section))))
        elif isinstance(cause, UserError):  # a nested section's
            sentences += [_nest(place, text) for text in cause.problems]
        elif isinstance(cause, ValueError):  # a validator's own
            sentences.append(_nest(place, str(cause)))
        elif problem["type"] == "model_type" and problem["input"] is None:
            sentences.append(f"{place}: holds nothing; give it keys and values, or leave it out")
        elif problem["type"] == "model_type":
            sentences.append(f"{place}: must hold keys and values, not {shown(problem['input'])}")
        else:
            message = problem["msg"][0].lower() + problem["msg"][1:]
            sentences.append(f"{place}: {message}, not {shown(problem['input'])}")
    return sentences


def _below(section: type[BaseModel]) -> Iterator[str]:
    """Dotted names of the fields of the sections in a section."""
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from (f"{name}.{inner}" for inner in (*kind.model_fields, *_below(kind)))


def _nest(place: str, text: str) -> str:
    if not place:
        return text
    if text.startswith("unknown key '"):
        return text.replace("unknown key '", f"unknown key '{place}.", 1)
    first = text.partition(" ")[0]
    return f"{place}.{text}" if first.endswith(":") else f"{place}: {text}"
