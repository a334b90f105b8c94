"""A file's bytes as lines of text: decompressed to the last stream, decoded, or an error."""

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

from unmask.base.errors import UserError

_CHUNK = 2**20


class _Streams(io.RawIOBase):
    """Compressed streams one after another.

    The standard library's readers take what follows the first stream for nothing when it is
    damaged; here it is an error.
    """

    def __init__(self, new: Callable[[], Any], file: IO[bytes]) -> None:
        self._file = file
        self._new = new
        self._stream = new()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            if self._stream.eof:
                # xz files may be padded with zeros; no stream begins with one
                rest = self._stream.unused_data.lstrip(b"\0")
                while not rest:
                    chunk = self._file.read(_CHUNK)
                    if not chunk:
                        return 0
                    rest = chunk.lstrip(b"\0")
                self._stream = self._new()
            elif self._stream.needs_input:
                rest = self._file.read(_CHUNK)
                if not rest:
                    raise EOFError("the last compressed stream has no end")
            else:
                rest = b""
            data = self._stream.decompress(rest, len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)


def _streams(new: Callable[[], Any], file: IO[bytes]) -> IO[bytes]:
    return io.BufferedReader(_Streams(new, file))


def _gz(file: IO[bytes]) -> IO[bytes]:
    return cast(IO[bytes], gzip.GzipFile(fileobj=file))


def _zst(file: IO[bytes]) -> IO[bytes]:
    import pyarrow  # noqa: PLC0415

    stream = pyarrow.CompressedInputStream(file, "zstd")
    return io.BufferedReader(cast(io.RawIOBase, stream))  # it cannot read lines by itself


COMPRESSIONS: dict[str, Callable[[IO[bytes]], IO[bytes]]] = {
    ".gz": _gz,
    ".bz2": partial(_streams, bz2.BZ2Decompressor),
    ".xz": partial(_streams, lzma.LZMADecompressor),
    ".zst": _zst,
}
"""What decompresses a file, by its suffix."""

_FOREIGN = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The file's bytes, decompressed.

    Raises:
        UserError: the file cannot be read, or not to its end.
    """
    with readable(path):
        opener = COMPRESSIONS.get(path.suffix.lower())
        if opener is not None and not path.stat().st_size:
            raise EOFError("the file is empty, which no compressed file is")
        with (
            path.open("rb") as raw,
            opener(raw) if opener else nullcontext(raw) as file,
            followed(path, raw.tell),
        ):
            yield file


_POSITIONS: dict[Path, Callable[[], int]] = {}


@contextmanager
def followed(path: Path, tell: Callable[[], int]) -> Iterator[None]:
    """Let `position` know where in a file the reading of it is."""
    _POSITIONS[path] = tell
    try:
        yield
    finally:
        _POSITIONS.pop(path, None)


def position(path: Path) -> int:
    """How many bytes of a file the reading of it has come to; 0 where it is not being read."""
    tell = _POSITIONS.get(path)
    return tell() if tell else 0


@contextmanager
def readable(path: Path, *more: type[Exception]) -> Iterator[None]:
    """Turn what goes wrong in reading a file into an error that names it."""
    kinds: tuple[type[Exception], ...] = (OSError, EOFError, lzma.LZMAError, zlib.error, *more)
    try:
        yield
    except kinds as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UserError(f"{path} cannot be read: {' '.join(reason.split())}") from error


def text_lines(path: Path) -> Iterator[str]:
    """Lines with their ends; a byte order mark of UTF-8 is left out.

    Raises:
        UserError: the file cannot be read, or is not UTF-8 text.
    """
    with opened(path) as file:
        for number, line in enumerate(file, 1):
            try:
                yield (_without_mark(line, path) if number == 1 else line).decode()
            except UnicodeDecodeError:
                raise UserError(f"{path} is not UTF-8 text (line {number})") from None


def _without_mark(line: bytes, path: Path) -> bytes:
    foreign = next((name for mark, name in _FOREIGN if line.startswith(mark)), None)
    if foreign is None and b"\0" in line[:2]:
        foreign = "UTF-16 without a byte order mark"
    if foreign is not None:
        raise UserError(f"{path} is not UTF-8 text but {foreign}; convert it to UTF-8")
    return line.removeprefix(codecs.BOM_UTF8)
