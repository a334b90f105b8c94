"""Options: parsed and checked once, here; and the one place that knows how a field's flag is spelt.

Below the command line errors name fields (``train.batch_size``); here they become flags
(``--train.batch-size``).
"""

import io
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr
from functools import wraps
from types import NoneType
from typing import Annotated, Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from unmask.base.errors import SHOWN, UserError
from unmask.base.numbers import decimal_number, whole_number
from unmask.base.section import Section

T = TypeVar("T", bound=Section)
Run = Callable[[Sequence[str]], int]


def parse(kind: type[T], command: str, arguments: Sequence[str], **defaults: Any) -> T:
    """Read a command's options.

    Args:
        kind: its options.
        command: as it is typed, ``unmask sample``.
        arguments: what follows it.
        defaults: values of what is not given, if not those of ``kind``.

    Raises:
        UserError: a section refuses a value.
        SystemExit: help was asked for (0), or the options cannot be read (2).
    """
    # Of a value that the parser itself refuses, its message repeats all: it is given the beginning.
    short = [a if len(a) <= SHOWN else f"{a[:SHOWN]}..." for a in arguments]
    default: Any = kind.model_construct(**defaults) if defaults else tyro.MISSING
    shown = io.StringIO()
    try:
        with redirect_stderr(shown):
            parsed: T = tyro.cli(
                kind,
                prog=command,
                args=list(arguments),
                default=default,
                registry=_NUMBERS,
            )
            return parsed
    except SystemExit as end:
        # The parser shows a section's error in a box of its own, under its own names.
        place, cause = "", end.__context__
        while cause is not None and not isinstance(cause, UserError):
            place, cause = getattr(cause, "arg", place), cause.__context__
        if cause is not None:
            raise UserError(*(_placed(kind, place, text) for text in cause.problems)) from None
        if short != list(arguments):
            parse(kind, command, short, **defaults)
        sys.stderr.write(shown.getvalue())
        raise


_NUMBERS = ConstructorRegistry()


@_NUMBERS.primitive_rule
def _numbers(info: PrimitiveTypeInfo) -> "PrimitiveConstructorSpec[Any] | None":
    """Read numbers as everywhere else; what is none stays text, which its section refuses."""
    kinds: set[Any] = {*get_args(info.type)} or {info.type}
    if not kinds <= {int, float, NoneType} or kinds == {NoneType}:
        return None
    read = whole_number if int in kinds else decimal_number
    name = "INT" if int in kinds else "FLOAT"

    def value(words: list[str]) -> Any:
        (text,) = words
        if text == "None" and NoneType in kinds:
            return None
        number = read(text)
        return text if number is None else number

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=f"{{None}}|{name}" if NoneType in kinds else name,
        instance_from_str=value,
        is_instance=lambda value: type(value) in {*kinds, int},
        str_from_instance=lambda value: [str(value)],
    )


def _placed(kind: type[Section], place: object, problem: str) -> str:
    """A nested section's problem with the section's own place in the options."""
    parts: list[str] = []
    for name in place.replace("-", "_").split(".") if isinstance(place, str) else ():
        found = next((field for field in _fields(kind) if field.name == name), None)
        if found is not None and found.kind is not None:
            kind = found.kind
            parts += [found.called] if found.called else []
    return ".".join([*parts, problem])


def says_flags(kind: type[Section]) -> Callable[[Run], Run]:
    """Let the errors of a command name flags where they name fields of its options, ``kind``."""

    def decorate(run: Run) -> Run:
        @wraps(run)
        def decorated(arguments: Sequence[str]) -> int:
            try:
                return run(arguments)
            except UserError as error:
                names = sorted(_flagged(kind), key=len, reverse=True)
                raise UserError(*(_in_flags(text, names) for text in error.problems)) from error

        return decorated

    return decorate


def _in_flags(problem: str, names: Sequence[str]) -> str:
    """A sentence with the flags of the fields it names.

    A field whose name is a plain word is meant as one only where the sentence begins with it.
    """
    if problem.startswith("the configuration "):  # a file, in which fields are keys
        return problem
    for name in names:
        flag = "--" + name.replace("_", "-")
        pattern = re.escape(name).replace("_", "[_-]") + r"(?:\.\d+(?=:))?"  # of several values
        if re.search(r"[._]", name):
            problem = re.sub(rf"(?<![\w.'/+-]){pattern}(?![\w'/=-]|\.\w)", flag, problem)
        else:
            problem = re.sub(rf"^{pattern}(?=: |, | must | names | and )", flag, problem)
    return problem


class _Field(NamedTuple):
    """A field of options: its name, what it is called as a flag (maybe nothing), and its type."""

    name: str
    called: str
    kind: type[Section] | None
    positional: bool


def _fields(kind: type[Section]) -> Iterator[_Field]:
    hints = get_type_hints(kind, include_extras=True)
    for name in kind.model_fields:
        hint = hints[name]
        own, *marks = get_args(hint) if get_origin(hint) is Annotated else [hint]
        called = next((m.name for m in marks if isinstance(getattr(m, "name", None), str)), name)
        nested = own if isinstance(own, type) and issubclass(own, Section) else None
        yield _Field(name, called, nested, _POSITIONAL in marks)


_POSITIONAL = get_args(tyro.conf.Positional[int])[1]


def _flagged(kind: type[Section], prefix: str = "") -> Iterator[str]:
    """Dotted names of all fields that are flags."""
    for field in _fields(kind):
        if field.kind is not None:
            yield from _flagged(field.kind, f"{prefix}{field.called}." if field.called else prefix)
        elif not field.positional:
            yield prefix + field.called
