"""Things that take a while to make, kept by what they are made from."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4
from zlib import crc32

from unmask.base.errors import UserError
from unmask.base.files import locked, write_whole

_UNFINISHED = ".making-"
_CHECKSUMS = "checksums.json"
_CHUNK = 2**22


def cache_folder(chosen: Path | None = None) -> Path:
    """The cache folder, made if need be.

    Args:
        chosen: the folder; None for ``$UNMASK_CACHE``, else ``$XDG_CACHE_HOME/unmask``, else
            ``~/.cache/unmask``.

    Raises:
        UserError: it cannot be made or written to, or there is no home folder to make it in.
    """
    folder = chosen or _user_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unusable(folder, error) from None
    return folder


def _user_folder() -> Path:
    if named := os.environ.get("UNMASK_CACHE"):
        return Path(named)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unmask"
    except RuntimeError:
        raise UserError(
            "there is no home folder to keep a cache in; set UNMASK_CACHE to a folder"
        ) from None


def _unusable(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"the cache folder {folder} cannot be written ({error.strerror or error}); "
        "set UNMASK_CACHE to a folder that can"
    )


def kept(
    cache: Path, key: str, *, whole: Callable[[Path], bool], make: Callable[[Path], None]
) -> Path:
    """Return the folder of a cache entry, made first if it is not there or not whole.

    Several processes may make it at once: each fills a folder of its own, and the first rename
    wins. A folder that a process left unfinished when it was killed is removed by a later one.
    Whoever finds an entry reads it once to check it: one that was damaged, or is from before there
    were checksums, is made again.

    Args:
        cache: the cache folder.
        key: the entry's name, which determines its content.
        whole: whether what is in a folder is a whole entry of today's kind.
        make: fills an empty folder.

    Raises:
        UserError: the cache cannot be written.
    """

    def as_made(folder: Path) -> bool:
        return whole(folder) and _noted(folder) == _checksums(folder)

    final = cache / key
    try:
        if final.is_dir() and as_made(final):
            return final
    except OSError as error:
        raise UserError(
            f"the cache entry {final} cannot be read ({error.strerror or error}): delete it"
        ) from None
    temporary = final.parent / f"{_UNFINISHED}{uuid4().hex}"
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            with locked(final.parent, wait=True):  # none takes it for another's before it is held
                _remove_abandoned(final.parent)
                temporary.mkdir()  # as the umask has it; mkdtemp's would be closed to others
                held.enter_context(locked(temporary, wait=False))
            make(temporary)
            write_whole(temporary / _CHECKSUMS, json.dumps(_checksums(temporary)).encode())
            with locked(final.parent, wait=True):  # none removes what another has just put
                if final.is_dir() and not as_made(final):
                    shutil.rmtree(final)
                if not final.is_dir():  # else another process was first
                    temporary.rename(final)
    except OSError as error:
        raise _unusable(cache, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return final


def _checksums(folder: Path) -> dict[str, int]:
    """CRC-32 of every file of an entry: it sees damage, and is as fast as a disk."""
    sums = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != _CHECKSUMS:
            value = 0
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    value = crc32(chunk, value)
            sums[path.relative_to(folder).as_posix()] = value
    return sums


def _noted(folder: Path) -> Any:
    """The checksums that an entry was made with; None if they cannot be told."""
    try:
        return json.loads((folder / _CHECKSUMS).read_text())
    except (FileNotFoundError, ValueError, RecursionError):
        return None


def _remove_abandoned(folder: Path) -> None:
    """Remove unfinished entries that no living process holds."""
    for unfinished in folder.glob(f"{_UNFINISHED}*"):
        with suppress(FileNotFoundError), locked(unfinished, wait=False) as abandoned:
            if abandoned:
                shutil.rmtree(unfinished, ignore_errors=True)
