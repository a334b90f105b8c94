"""What the commands print: results byte for byte, errors in a line."""

import codecs
import os
import sys

from unmask.base.text import visible

_PLAIN = str.maketrans(
    {
        **{"±": "+/-", "×": "x", "–": "-", "—": "-", "…": "...", "░": "#", "→": "->"},
        **{"│": "|", "─": "-", **dict.fromkeys("╭╮╰╯", "+")},
    }
)


def open_streams() -> None:
    """Make the standard streams take any text, whatever their encoding, and even if closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115 - until the end
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="unmask")


def print_result(text: str, *, newline: bool = True) -> None:
    """Write a result to standard output: its own bytes (UTF-8), or to a terminal its signs."""
    end = "\n" if newline and not text.endswith("\n") else ""
    buffer = getattr(sys.stdout, "buffer", None)
    if buffer is None or sys.stdout.isatty():
        sys.stdout.write(visible(text) + end)
        return
    sys.stdout.flush()
    buffer.write((text + end).encode("utf-8", "surrogateescape"))
    buffer.flush()


def print_error(message: str) -> None:
    """Write a line to standard error, red in a terminal."""
    line = visible(message)
    if sys.stderr.isatty() and "NO_COLOR" not in os.environ:
        line = f"\x1b[31m{line}\x1b[0m"
    print(line, file=sys.stderr)


def _in_their_encoding(error: UnicodeError) -> tuple[str, int]:
    """Signs that a stream's encoding lacks, in ones it has."""
    assert isinstance(error, UnicodeEncodeError)
    lost = error.object[error.start : error.end].translate(_PLAIN)
    plain = lost.encode("ascii", "backslashreplace").decode("ascii")
    return plain, error.end


codecs.register_error("unmask", _in_their_encoding)
