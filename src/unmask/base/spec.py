"""``NAME:key=value,key=value``: the one spelling for a named thing with parameters.

Recipes (``bell:mean=0.4,std=0.15``) and corpora (``hf:lm1b,split=train``) are both written so,
on the command line, in YAML and in Python.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from unmask.base.errors import UserError, unknown

T = TypeVar("T")


def parse_spec(text: str) -> tuple[str, dict[str, str]]:
    """Split ``NAME[:key=value,...]`` into the name and its options, still as text.

    Raises:
        UserError: an option has no ``=`` or is given twice.
    """
    name, _, rest = text.partition(":")
    return name, parse_options(rest, text)


def parse_options(rest: str, whole: str) -> dict[str, str]:
    """Read ``key=value,key=value``; ``whole`` is the spec it came from, for the error."""
    options: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in rest.split(","))):
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise UserError(f"{whole!r}: {item!r} is not of the form key=value")
        if key in options:
            raise UserError(f"{whole!r}: {key!r} is given twice")
        options[key] = value
    return options


def format_spec(name: str, options: Mapping[str, Any]) -> str:
    """Write a spec that `parse_spec` reads back: the inverse, up to the options' order."""

    def text(value: Any) -> str:
        return str(value).lower() if isinstance(value, bool) else str(value)

    body = ",".join(f"{key}={text(value)}" for key, value in options.items())
    return f"{name}:{body}" if body else name


def build(factory: type[T], options: Mapping[str, Any], kind: str) -> T:
    """Make a dataclass from textual options, converted by the types of its fields.

    Args:
        factory: a dataclass whose fields are float, int, bool, str or one of these or None.
        options: field name to text, or to a value that is taken as it is.
        kind: what is being built, for the error (``"recipe 'bell'"``).

    Raises:
        UserError: an unknown field (the valid ones are listed), or text of the wrong type.
    """
    hints = typing.get_type_hints(factory)
    fields = {f.name: hints[f.name] for f in dataclasses.fields(factory) if f.init}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, given in options.items():
        if key not in fields:
            raise unknown(f"option of {kind}", key, fields)
        text = isinstance(given, str)
        values[key] = _convert(given, fields[key], f"{kind}: {key}") if text else given
    missing = [
        f.name
        for f in dataclasses.fields(factory)  # type: ignore[arg-type]
        if f.init
        and f.name not in values
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise UserError(f"{kind} needs {', '.join(missing)}")
    return factory(**values)


def _convert(text: str, hint: Any, where: str) -> Any:
    if isinstance(hint, types.UnionType):  # X | None
        hint = next(h for h in typing.get_args(hint) if h is not type(None))
    if hint is bool:
        if text.lower() not in ("true", "false"):
            raise UserError(f"{where} must be true or false, not {text!r}")
        return text.lower() == "true"
    if hint in (float, int):
        try:
            return hint(text)
        except ValueError:
            name = {float: "a number", int: "a whole number"}[hint]
            raise UserError(f"{where} must be {name}, not {text!r}") from None
    return text
