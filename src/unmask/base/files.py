"""Files written whole or not at all, and read with one clear error."""

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from unmask.base.errors import UserError, shown


def write_whole(path: Path, data: bytes) -> None:
    """Write a file under a temporary name in its folder, sync it, and rename it into place.

    Raises:
        OSError: it cannot be written; nothing is left, and the error names the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            error.filename = str(path)
        raise
    sync_folder(path.parent)


def is_unfinished(path: Path) -> bool:
    """Whether it is what a process that was killed in `write_whole` has left."""
    return re.fullmatch(r"\..+\.[0-9]+\.tmp", path.name) is not None


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes have left in a folder that nobody else writes in now."""
    for path in folder.iterdir():
        if is_unfinished(path):
            path.unlink(missing_ok=True)


def check_writable(folder: Path, field: str) -> None:
    """Make sure, before work whose result goes into a folder, that it can be made and written in.

    Raises:
        UserError: it cannot; ``field`` is where the folder was given.
    """
    there = folder
    try:
        while not _exists(there):
            there = there.parent
        there.stat()  # fails for a dangling link
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{field} {shown(str(folder))} cannot be a folder: {reason}") from None
    if not there.is_dir():
        which = "it" if there == folder else there
        raise UserError(f"{field} {folder} cannot be a folder, because {which} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{field} {folder} cannot be written: no permission to write in {there}")


def _exists(path: Path) -> bool:
    """Whether something bears a name; a name that nothing can bear raises."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def parse_json(text: str, where: str) -> Any:
    """What a JSON text holds.

    Raises:
        UserError: it is not JSON; ``where`` is the file, or file and line, that it stands in.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        reason = str(error).partition(";")[0]  # without Python's advice on its limit of digits
    except RecursionError:
        reason = "nested too deeply"
    raise UserError(f"{where} is damaged: not JSON ({reason})")


def read_utf8(path: Path) -> str:
    """A file's UTF-8 text.

    Raises:
        UserError: it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is damaged: not UTF-8 ({error.reason})") from None


def sync_folder(folder: Path) -> None:
    """Make a rename within a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_LOCKS = set[int]()


def _leave_locks() -> None:
    """In a copy of a process: a lock ends with the process that took it, not with its workers."""
    while _LOCKS:
        os.close(_LOCKS.pop())


os.register_at_fork(after_in_child=_leave_locks)


@contextmanager
def locked(folder: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a folder against other processes until the block ends, or the process does.

    Args:
        wait: until it is free; otherwise the value says whether it was.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    _LOCKS.add(descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        free = True
    except BlockingIOError:
        free = False
    try:
        yield free
    finally:
        if descriptor in _LOCKS:  # else this is a copy of the process that holds it
            _LOCKS.remove(descriptor)
            os.close(descriptor)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
