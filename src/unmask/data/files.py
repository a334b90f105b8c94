"""Corpora from the user's own files: .txt, .jsonl and .parquet, alone or in a folder."""

import gzip
import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

from unmask.base.errors import UserError, unknown
from unmask.base.files import sha256_of
from unmask.base.spec import build
from unmask.data.documents import Documents, Source, checked_text, digest, missing_field

FILE_KINDS = ".txt, .jsonl or .parquet, the first two also with .gz, .xz or .zst"


@dataclass(frozen=True)
class FileOptions:
    """What can follow a path.

    Attributes:
        field: where a row's text is, in .jsonl and .parquet (default ``text``).
        document: what is one document of a .txt: ``file``, ``paragraph``, ``line`` or ``auto``.
    """

    field: str | None = None
    document: str | None = None


def open_path(path: Path, options: dict[str, str], name: str) -> Source:
    """Open a file, or all files of a known kind below a folder.

    Args:
        path: the file or folder, which exists.
        options: fields of `FileOptions`, as text.
        name: what the user called it.

    Raises:
        UserError: nothing there can be read, or an option is wrong or would change nothing.
    """
    chosen = build(FileOptions, options, f"corpus {name!r}")
    files = list_files(path)
    kinds = {_kind(file) for file in files}
    _check_options(chosen, kinds, name)
    root = path if path.is_dir() else path.parent
    contents = []
    for file in files:
        with _damage_told(file):
            contents.append([file.relative_to(root).as_posix(), sha256_of(file)])
    identity = digest("files", 1, contents, chosen.field, chosen.document)
    return Source(Documents(name, identity, partial(_read, files, chosen)))


def list_files(path: Path) -> list[Path]:
    """A file of a known kind itself, or all of them below a folder, sorted.

    Raises:
        UserError: there is none.
    """
    if path.is_file():
        if not _kind(path):
            raise UserError(f"{path} is not a file of a known kind: {FILE_KINDS}")
        return [path]
    files = sorted(p for p in path.rglob("*") if p.is_file() and _kind(p))
    if not files:
        raise UserError(f"the folder {path} holds no text files: {FILE_KINDS}")
    return files


def _kind(path: Path) -> str:
    """``.txt``, ``.jsonl`` or ``.parquet``, below a compression's suffix; else nothing."""
    suffix = path.with_suffix("").suffix if path.suffix in _OPENERS else path.suffix
    return suffix if suffix in _READERS else ""


def _check_options(options: FileOptions, kinds: set[str], name: str) -> None:
    if options.field is not None and kinds == {".txt"}:
        raise UserError(f"corpus {name!r}: field= is for .jsonl and .parquet, and it has .txt only")
    if options.document is not None and ".txt" not in kinds:
        raise UserError(f"corpus {name!r}: document= is for .txt files, and it has none")
    if options.document is not None and options.document not in ("auto", *_CUTS):
        raise unknown("document", options.document, ["auto", *_CUTS])


def _read(files: list[Path], options: FileOptions) -> Iterator[str]:
    texts = [file for file in files if _kind(file) == ".txt"]
    document = options.document or "auto"
    if document == "auto" and len(texts) > 1:
        document = "file"
    for file in files:
        yield from _READERS[_kind(file)](file, options.field or "text", document)


# --- one file ---------------------------------------------------------------------------------


def _read_txt(path: Path, field: str, document: str) -> Iterator[str]:
    if document == "auto":
        with _opened(path) as file:
            document = "paragraph" if _has_paragraphs(_lines(file, path)) else "line"
    with _opened(path) as file:
        yield from _CUTS[document](_lines(file, path))


def _read_jsonl(path: Path, field: str, document: str) -> Iterator[str]:
    with _opened(path) as file:
        for number, line in enumerate(_lines(file, path), 1):
            where = f"{path}, line {number}"
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"{where} is not JSON: {error.msg}") from None
            if not isinstance(row, dict):
                raise UserError(f"{where} is not a JSON object with the field {field!r}")
            if field not in row:
                raise missing_field(field, list(row), where)
            yield checked_text(row[field], field, where)


def _read_parquet(path: Path, field: str, document: str) -> Iterator[str]:
    import pyarrow.parquet  # noqa: PLC0415

    if path.suffix != ".parquet":
        raise UserError(f"{path}: parquet files are compressed inside; decompress this one first")
    with _damage_told(path, pyarrow.ArrowException):
        table = pyarrow.parquet.ParquetFile(path)
        if field not in table.schema_arrow.names:
            raise missing_field(field, table.schema_arrow.names, str(path))
        number = 0
        for batch in table.iter_batches(batch_size=1000, columns=[field]):
            for value in _column(batch, path, number):
                number += 1
                yield checked_text(value, field, f"{path}, row {number}")


def _column(batch: Any, path: Path, number: int) -> list[Any]:
    """The values of a batch's only column."""
    try:
        values: list[Any] = batch.column(0).to_pylist()
    except UnicodeDecodeError:
        rows = f"rows {number + 1} to {number + batch.num_rows}"
        raise UserError(f"{path} is not UTF-8 text ({rows})") from None
    return values


_READERS: dict[str, Callable[[Path, str, str], Iterator[str]]] = {
    ".txt": _read_txt,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}


# --- bytes to lines ---------------------------------------------------------------------------


def _open_zst(path: Path) -> IO[bytes]:
    import pyarrow  # noqa: PLC0415

    stream = pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd")
    return io.BufferedReader(cast(io.RawIOBase, stream))  # it cannot read lines by itself


_OPENERS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.GzipFile,
    ".xz": lzma.LZMAFile,
    ".zst": _open_zst,
}


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The file's bytes, decompressed."""
    with _damage_told(path), _OPENERS.get(path.suffix, partial(Path.open, mode="rb"))(path) as file:
        yield file


@contextmanager
def _damage_told(path: Path, *more: type[Exception]) -> Iterator[None]:
    kinds: tuple[type[Exception], ...] = (OSError, EOFError, lzma.LZMAError, zlib.error, *more)
    try:
        yield
    except kinds as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def _lines(file: IO[bytes], path: Path) -> Iterator[str]:
    for number, line in enumerate(file, 1):
        try:
            yield line.decode()
        except UnicodeDecodeError:
            raise UserError(f"{path} is not UTF-8 text (line {number})") from None


# --- lines to documents -----------------------------------------------------------------------


def _has_paragraphs(lines: Iterator[str]) -> bool:
    """Whether a blank line stands between two that are not."""
    seen = gap = False
    for line in lines:
        if not line.strip():
            gap = seen
        elif gap:
            return True
        else:
            seen = True
    return False


def _whole(lines: Iterator[str]) -> Iterator[str]:
    yield "".join(lines)


def _paragraphs(lines: Iterator[str]) -> Iterator[str]:
    """Runs of lines that are not blank, without the last line's end."""
    paragraph: list[str] = []
    for line in lines:
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            yield "".join(paragraph).rstrip("\r\n")
            paragraph = []
    yield "".join(paragraph).rstrip("\r\n")


def _single_lines(lines: Iterator[str]) -> Iterator[str]:
    """Lines that are not blank, without their ends."""
    for line in lines:
        if line.strip():
            yield line.rstrip("\r\n")


_CUTS: dict[str, Callable[[Iterator[str]], Iterator[str]]] = {
    "file": _whole,
    "paragraph": _paragraphs,
    "line": _single_lines,
}
