"""YAML whose scalars mean what they look like.

The core schema of YAML 1.2 without its octal and hexadecimal numbers, infinities and NaN: ``yes``
is text, ``010``, ``1:30`` and ``2020-01-01`` are text (so no field for a number takes them),
``1e-3`` is a number. A key that is there twice, an anchor and a tag are errors.
"""

import re
from collections.abc import Iterator
from typing import Any, ClassVar

import yaml

from unmask.base.errors import UserError, shown
from unmask.base.numbers import decimal_number, whole_number

_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
_DEEPEST = 50


def read_yaml(text: str) -> tuple[Any, dict[str, int]]:
    """Read a document of mappings, lists and scalars.

    Returns:
        What it holds, and the line (from 1) that each dotted key stands on.

    Raises:
        UserError: it is not YAML, or not of this kind; the line is named.
    """
    lines: dict[str, int] = {}
    try:
        node = _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        raise _problem(error.problem_mark, error.problem or "not YAML") from None
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise UserError(f"not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise UserError("not YAML: nested too deeply") from None
    return (None if node is None else _value(node, "", lines)), lines


def write_yaml(values: Any) -> str:
    """Write what `read_yaml` reads back."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, width=200)


class _Loader(yaml.SafeLoader):
    """Leaves plain scalars as text (`_scalar` reads them) and knows no tags."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None) is not None:
            raise _problem(event.start_mark, "anchors and aliases (& and *) are not read")
        if getattr(event, "tag", None) is not None:
            raise _problem(event.start_mark, f"tags such as {shown(event.tag)} are not read")
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """Quotes what either version of YAML would read as something else than text."""


_Dumper.add_implicit_resolver(  # 1e-3: text in YAML 1.1
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9.]+[eE][-+]?[0-9]+"), list("-+.0123456789")
)


def _value(node: Any, place: str, lines: dict[str, int]) -> Any:
    if place.count(".") > _DEEPEST:
        raise _problem(node.start_mark, "nested too deeply")
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, f"{place}.{i}", lines) for i, item in enumerate(node.value)]
    return dict(_items(node, place, lines))


def _items(node: Any, place: str, lines: dict[str, int]) -> Iterator[tuple[str, Any]]:
    seen = set()
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise _problem(key_node.start_mark, "a key must be a word")
        key = key_node.value
        dotted = f"{place}.{key}" if place else key
        if key in seen:
            raise _problem(key_node.start_mark, f"the key {shown(dotted)} is there twice")
        seen.add(key)
        lines[dotted] = key_node.start_mark.line + 1
        yield key, _value(value_node, dotted, lines)


def _scalar(node: Any) -> Any:
    text: str = node.value
    if node.style is not None:  # quoted
        return text
    if text.lower() in _WORDS and text in (text.lower(), text.upper(), text.capitalize()):
        return _WORDS[text.lower()]
    whole, decimal = whole_number(text), decimal_number(text)
    return next((value for value in (whole, decimal) if value is not None), text)


def _problem(mark: Any, text: str) -> UserError:
    return UserError(f"line {mark.line + 1}: {text}")
