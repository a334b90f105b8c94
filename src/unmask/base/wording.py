"""How numbers of things and lists of names are written in messages."""

from collections.abc import Sequence


def counted(n: int, noun: str) -> str:
    """``1 block``, ``2,000 blocks``: for nouns with a plural in s."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def listed(names: Sequence[str], most: int) -> str:
    """The first of some names, and how many more there are; any name can be printed."""
    shown = [name.encode(errors="backslashreplace").decode() for name in names[:most]]
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(shown) + more
