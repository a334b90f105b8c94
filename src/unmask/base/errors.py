"""The one kind of error a user can cause, and the sentence it is told in."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

SHOWN = 80
"""Characters of a value that a message repeats."""


class UserError(ValueError):
    """What was asked for cannot be done; the message names the field or file and what is valid.

    The command line prints the message alone (no traceback) and exits with status 2. Where
    several things are wrong, ``problems`` holds a sentence for each and the message all of them.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def unknown(kind: str, name: str, valid: Iterable[str], elsewhere: Iterable[str] = ()) -> UserError:
    """Build the error for a name that is not among the ``valid`` ones, which it lists.

    Args:
        kind: of what it is a name.
        name: the unknown one.
        valid: what could stand there.
        elsewhere: dotted names that are valid in other places; one that ends with ``name`` is
            what may have been meant.
    """
    names = sorted(valid)
    hint = meant(name, names, elsewhere)
    return UserError(f"unknown {kind} {shown(name)}{hint}; valid: {', '.join(names)}")


def meant(name: str, names: Iterable[str], elsewhere: Iterable[str] = ()) -> str:
    """`` (did you mean 'bell'?)``: what a wrong name may stand for, or nothing; as of `unknown`."""
    there = [dotted for dotted in elsewhere if dotted.endswith(f".{name}")]
    close = there or get_close_matches(name, list(names), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def shown(value: Any) -> str:
    """A value as a message repeats it: on one line, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
