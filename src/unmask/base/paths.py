"""Paths that are not there: how a mistyped one is recognised, and what is near it."""

import re
from difflib import get_close_matches
from pathlib import Path

from unmask.base.errors import UserError

_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_FILE = re.compile(r"\.(txt|jsonl?|csv|parquet|ya?ml|md|gguf|safetensors)(\.\w{1,3})?$", re.I)
_NEAR = 3


def looks_like_path(name: str) -> bool:
    """Whether a name that is no file can only be meant as one, and not as a name on a hub.

    ``owner/name`` and ``model-0.5B`` are names; ``./name``, ``~/name``, ``a/b/c``, ``C:\\name``,
    ``name.txt`` and a name in a folder that is there are paths.
    """
    beside = Path(name).parent
    return bool(
        name.startswith((".", "/", "~"))
        or name.endswith("/")
        or "\\" in name
        or name.count("/") > 1
        or _DRIVE.match(name)
        or _FILE.search(name)
        or (beside != Path() and exists(str(beside)))
    )


def missing_path(where: str, name: str, valid: str) -> UserError:
    """Build the error for a path that is not there.

    Args:
        where: the field or thing that named it.
        name: the path.
        valid: what could stand there, as in ``a folder of texts``.
    """
    return UserError(f"{where}: no file or folder {name!r}{near_paths(name)}; valid: {valid}")


def near_paths(name: str) -> str:
    """`` (did you mean 'a.txt'?)``: at most three other paths that are there, or nothing."""
    path = Path(name)
    while path.parent != path and not exists(str(path.parent)):
        path = path.parent
    try:
        beside = [entry for entry in path.parent.iterdir() if entry != path]
    except (OSError, ValueError):
        return ""
    there = {entry.name.casefold(): entry for entry in beside}
    close = get_close_matches(path.name.casefold(), there, n=_NEAR)
    near = " or ".join(repr(str(there[entry])) for entry in close)
    return f" (did you mean {near}?)" if near else ""


def exists(name: str) -> bool:
    """Whether a file or folder is called so; a name that no file can have is called by none."""
    try:
        return bool(name) and Path(name).exists()  # Path("") is the folder one is in
    except (OSError, ValueError):  # longer than any path may be; a NUL in it
        return False
