"""Things that take a while to make, kept by what they are made from."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from unmask.base.errors import UserError
from unmask.base.files import locked


def cache_folder(chosen: Path | None = None) -> Path:
    """The cache folder, made if need be.

    Args:
        chosen: the folder; None for ``$UNMASK_CACHE``, else ``$XDG_CACHE_HOME/unmask``, else
            ``~/.cache/unmask``.

    Raises:
        UserError: it cannot be made or written to.
    """
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = chosen or Path(os.environ.get("UNMASK_CACHE") or Path(home) / "unmask")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"the cache folder {folder} cannot be written ({error.strerror}); "
            "set UNMASK_CACHE to a folder that can"
        ) from None
    return folder


def kept(
    cache: Path, key: str, *, whole: Callable[[Path], bool], make: Callable[[Path], None]
) -> Path:
    """Return the folder of a cache entry, made first if it is not there or not whole.

    Several processes may make it at once: each fills a folder of its own, and the first rename
    wins.

    Args:
        cache: the cache folder.
        key: the entry's name, which determines its content.
        whole: whether a folder holds a whole entry.
        make: fills an empty folder.
    """
    final = cache / key
    if final.is_dir() and whole(final):
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.parent / f".making-{uuid4().hex}"
    temporary.mkdir()  # as the user's umask has it; mkdtemp's would be closed to a shared cache
    try:
        make(temporary)
        with locked(final.parent, wait=True):  # none removes what another has just put
            if final.is_dir() and not whole(final):
                shutil.rmtree(final)
            if not final.is_dir():  # else another process was first
                temporary.rename(final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return final
