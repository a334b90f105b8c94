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


def unknown(kind: str, name: str, valid: Iterable[str]) -> UserError:
    """Build the error for a name that is not among the ``valid`` ones, which it lists."""
    names = sorted(valid)
    close = get_close_matches(name, names, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return UserError(f"unknown {kind} {shown(name)}{hint}; valid: {', '.join(names)}")


def shown(value: Any) -> str:
    """A value as a message repeats it: on one line, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
