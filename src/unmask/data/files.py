"""Corpora from the user's own files: one, several by a pattern, or all below a folder."""

import csv
import glob
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from os import scandir
from pathlib import Path
from typing import Any

from unmask.base.errors import UserError, unknown
from unmask.base.files import sha256_of
from unmask.base.paths import exists, missing_path
from unmask.base.spec import build
from unmask.base.wording import counted, listed
from unmask.data.documents import (
    Document,
    Documents,
    Shard,
    Shards,
    Source,
    digest,
)
from unmask.data.records import PLAIN, Fields, missing_field
from unmask.data.streams import COMPRESSIONS, followed, position, readable, text_lines

_NAMED = 3  # of the things that are left out


@dataclass(frozen=True)
class FileOptions:
    """What can follow a path.

    Attributes:
        field: where a record's text is (default ``text``); ``meta.text`` is ``text`` in ``meta``.
        document: what is one document of a .txt: ``file``, ``paragraph``, ``line`` or ``auto``.
    """

    field: str | None = None
    document: str | None = None


@dataclass
class Found:
    """What a path or a pattern stands for.

    Attributes:
        root: the folder that the files' names are relative to.
        files: those of a known format, sorted.
        skipped: what else there was, by name.
    """

    root: Path
    files: list[Path] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """``3 files``, and how many things were left out."""
        text = counted(len(self.files), "file")
        if self.skipped:
            text += f", {len(self.skipped):,} skipped ({listed(self.skipped, _NAMED)})"
        return text


def open_files(spec: str, options: dict[str, str], name: str, fields: Fields = PLAIN) -> Source:
    """Open a file, all files of a known format below a folder, or those that a pattern names.

    Args:
        spec: the path, or a pattern (``data/**/*.jsonl``).
        options: fields of `FileOptions`, as text.
        name: what the user called it.
        fields: which are read of a record, but for the one that the options name.

    Raises:
        UserError: nothing there can be read, or an option is wrong or would change nothing.
    """
    chosen = build(FileOptions, options, f"corpus {name!r}")
    found = find_files(spec)
    _check_options(chosen, {format_of(file) for file in found.files}, name, fields)
    contents, stamps = [], []
    for file in found.files:
        with readable(file):
            stamps.append(_stamp(file))
            contents.append([file.relative_to(found.root).as_posix(), sha256_of(file)])
    identity = digest("files", 1, contents, chosen.field, chosen.document, *fields.key)
    reading = _Reading(found.files, stamps, chosen, fields)
    documents = Documents(name, identity, reading.texts, reading.part)
    return Source(documents, summary=found.summary())


def file_shards(spec: str, options: dict[str, str], name: str, fields: Fields = PLAIN) -> Shards:
    """Open the files that `open_files` opens as shards of a stream, without reading them.

    Raises:
        UserError: as `open_files`.
    """
    chosen = build(FileOptions, options, f"corpus {name!r}")
    found = find_files(spec)
    _check_options(chosen, {format_of(file) for file in found.files}, name, fields)
    stamps = []
    for file in found.files:
        with readable(file):
            stamps.append(_stamp(file))
    reading = _Reading(found.files, stamps, chosen, fields)
    names = [file.relative_to(found.root).as_posix() for file in found.files]
    sizes = [size for size, _ in stamps]
    identity = digest("file shards", 1, names, sizes, chosen.field, chosen.document, *fields.key)
    shards = [
        Shard(str(file), partial(reading.texts_of, k), size)
        for k, (file, size) in enumerate(zip(found.files, sizes, strict=True))
    ]
    return Shards(name, identity, tuple(shards))


# --- which files ------------------------------------------------------------------------------


def find_files(spec: str) -> Found:
    """Find the files of a known format that a path or a pattern stands for.

    Folders are read with all folders below them, and so are links to folders, each folder once.
    Hidden files and folders, ``__pycache__`` and files of other formats are left out.

    Raises:
        UserError: there is none, a folder cannot be read, or a link with a known ending is broken.
    """
    path, there = Path(spec), exists(spec)
    if there and path.is_file():
        if not format_of(path):
            raise UserError(f"{path} is not a file of a known format: {file_formats()}")
        return Found(path.parent, [path])
    pattern: tuple[str, ...] = ()
    if not there and glob.has_magic(spec):
        fixed = next(i for i, part in enumerate(path.parts) if glob.has_magic(part))
        path, pattern = Path(*path.parts[:fixed]), path.parts[fixed:]
    if not exists(str(path)):
        raise missing_path("corpus", str(path), "a file or folder of texts")
    if not path.is_dir():
        raise UserError(f"{path} is neither a file nor a folder")
    found = _below(path, pattern)
    if not found.files:
        what = f"no file that {spec} names is" if pattern else f"no file in the folder {path} is"
        left = f" ({listed(found.skipped, _NAMED)})" if found.skipped else ""
        raise UserError(f"{what} of a known format{left}: {file_formats()}; so it holds no text")
    return found


def _below(root: Path, pattern: tuple[str, ...]) -> Found:
    found, links, seen = Found(root), [root], set[tuple[int, int]]()

    def walk(folder: Path) -> None:
        with readable(folder), scandir(folder) as entries:
            inside = sorted(entries, key=lambda entry: entry.name)
            status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:
            found.skipped.append(f"{folder.relative_to(root).as_posix()}, a link to a folder read")
            return
        seen.add((status.st_dev, status.st_ino))
        for entry in inside:
            path = folder / entry.name
            inner = path.relative_to(root)
            if entry.is_dir() and not _is_left_out(entry.name):
                (links.append if entry.is_symlink() else walk)(path)
            elif not _matches(inner.parts, pattern):
                continue
            elif _is_left_out(entry.name) or not format_of(path):
                found.skipped.append(inner.as_posix() + ("/" if entry.is_dir() else ""))
            elif entry.is_file():
                found.files.append(path)
            else:
                raise UserError(f"{path} is no file, or a link to none")

    while links:  # after the folders themselves, so that a file has the same name with and without
        walk(links.pop(0))
    found.files.sort()
    return found


def _is_left_out(name: str) -> bool:
    return name.startswith(".") or name == "__pycache__"


def _matches(names: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether a path, or a folder that it is in, is named by a pattern; ``**`` is any folders."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return _matches(names, pattern[1:]) or (bool(names) and _matches(names[1:], pattern))
    return bool(names) and fnmatchcase(names[0], pattern[0]) and _matches(names[1:], pattern[1:])


# --- the formats ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Format:
    """How files of a format are read.

    Attributes:
        read: (file, the option's value) -> its documents; of records the value is their `Fields`.
        option: the field of `FileOptions` that it heeds.
        compressed: whether a suffix of `COMPRESSIONS` may follow its own.
    """

    read: Callable[[Path, Any], Iterator[Document]]
    option: str = "field"
    compressed: bool = True


def format_of(path: Path) -> str:
    """The suffix in `FORMATS` that a file has, below that of a compression; else nothing."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in FORMATS else ""


def file_formats() -> str:
    """The formats by their suffixes, for messages."""
    plain = " or ".join([", ".join(list(FORMATS)[:-1]), list(FORMATS)[-1]])
    inside = ", ".join(suffix for suffix, kind in FORMATS.items() if not kind.compressed)
    return f"{plain}; all but {inside} also with {', '.join(COMPRESSIONS)}"


def _check_options(options: FileOptions, suffixes: set[str], name: str, fields: Fields) -> None:
    if fields.prompted and any(FORMATS[suffix].option != "field" for suffix in suffixes):
        has = ", ".join(sorted(suffixes))
        raise UserError(f"corpus {name!r}: prompts are for files of records, and it has {has}")
    if fields.messages is not None and options.field is not None:
        raise UserError(
            f"corpus {name!r}: field= is not read, as corpus.messages_field is {fields.messages!r}"
        )
    for option, value in (("field", options.field), ("document", options.document)):
        of = [suffix for suffix, kind in FORMATS.items() if kind.option == option]
        if value is not None and not suffixes.intersection(of):
            has = ", ".join(sorted(suffixes))
            raise UserError(
                f"corpus {name!r}: {option}= is for {', '.join(of)} files, and it has {has} only"
            )
    if options.document is not None and options.document not in ("auto", *_CUTS):
        raise unknown("document", options.document, ["auto", *_CUTS])


class _Reading:
    """Reads files one after another, and knows how far it is."""

    def __init__(
        self,
        files: list[Path],
        stamps: list[tuple[int, int]],
        options: FileOptions,
        fields: Fields,
    ) -> None:
        self._files, self._stamps = files, stamps
        self._fields = replace(fields, text=options.field or fields.text)
        self._document = options.document or "auto"
        if self._document == "auto" and sum(format_of(file) == ".txt" for file in files) > 1:
            self._document = "file"
        self._sizes: list[int] = [size for size, _ in stamps]
        self._now = 0

    def texts(self) -> Iterator[Document]:
        """The documents of all files."""
        for number in range(len(self._files)):
            self._now = number
            yield from self.texts_of(number)

    def texts_of(self, number: int) -> Iterator[Document]:
        """The documents of one file."""
        file = self._files[number]
        kind = FORMATS[format_of(file)]
        values = {"field": self._fields, "document": self._document}
        yield from kind.read(file, values[kind.option])
        with readable(file):
            if _stamp(file) != self._stamps[number]:
                raise UserError(f"{file} has changed since reading began; start again")

    def part(self) -> float:
        """Which part of all bytes has been read."""
        done = sum(self._sizes[: self._now]) + position(self._files[self._now])
        return done / max(sum(self._sizes), 1)


def _stamp(file: Path) -> tuple[int, int]:
    """What changes when a file is written to."""
    status = file.stat()
    return status.st_size, status.st_mtime_ns


def _read_txt(path: Path, document: str) -> Iterator[str]:
    if document == "auto":
        document = "paragraph" if _has_paragraphs(text_lines(path)) else "line"
    yield from _CUTS[document](text_lines(path))


def _read_jsonl(path: Path, fields: Fields) -> Iterator[Document]:
    for number, line in enumerate(text_lines(path), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        row = _from_json(line, where)
        if not isinstance(row, dict):
            raise UserError(f"{where} is not a JSON object with the field {fields.names[0]!r}")
        yield fields.document(row, where)


def _read_json(path: Path, fields: Fields) -> Iterator[Document]:
    """An array of texts, or of records; all of it is in memory."""
    text = "".join(text_lines(path))
    if not text.strip():
        return
    rows = _from_json(text, str(path), "; where each line is a record, name the file .jsonl")
    field = fields.names[0]
    if not isinstance(rows, list):
        raise UserError(f"{path} is not a JSON array of texts or of objects with a field {field!r}")
    for number, row in enumerate(rows, 1):
        where = f"{path}, record {number}"
        if not isinstance(row, (dict, str)):
            raise UserError(f"{where} is neither text nor a JSON object with the field {field!r}")
        if isinstance(row, str) and fields.prompted:
            raise UserError(f"{where} is text, and no JSON object with the field {field!r}")
        yield fields.document({field: row} if isinstance(row, str) else row, where)


def _read_csv(path: Path, fields: Fields) -> Iterator[Document]:
    """Rows of columns that the first row names."""
    csv.field_size_limit(sys.maxsize)  # a document may be longer than its 128 KiB
    rows = csv.reader(text_lines(path), strict=True)
    try:
        header = next(rows, [])
        for field in fields.names if header else ():
            if field not in header:
                raise missing_field(field, header, str(path))
        places = {field: header.index(field) for field in fields.names if header}
        for row in rows:
            if row and len(row) != len(header):
                raise UserError(
                    f"{path}, line {rows.line_num} has {counted(len(row), 'column')}, and the "
                    f"first line names {len(header)}"
                )
            if row:
                cells = {field: row[place] for field, place in places.items()}
                yield fields.document(cells, f"{path}, line {rows.line_num}")
    except csv.Error as error:
        raise UserError(f"{path}, line {rows.line_num} is not CSV: {error}") from None


def _read_parquet(path: Path, fields: Fields) -> Iterator[Document]:
    import pyarrow.parquet  # noqa: PLC0415

    if path.suffix.lower() != ".parquet":
        raise UserError(f"{path}: parquet files are compressed inside; decompress this one first")
    with readable(path, pyarrow.ArrowException):
        table = pyarrow.parquet.ParquetFile(path)
        columns = fields.columns(table.schema_arrow.names, str(path))
        number, n_bytes, rows = 0, path.stat().st_size, max(table.metadata.num_rows, 1)
        with followed(path, lambda: n_bytes * number // rows):
            for batch in table.iter_batches(batch_size=1000, columns=columns):
                for row in _rows(batch, path, number):
                    number += 1
                    yield fields.document(row, f"{path}, row {number}")


def _rows(batch: Any, path: Path, number: int) -> list[dict[str, Any]]:
    """The rows of a batch."""
    try:
        values: list[dict[str, Any]] = batch.to_pylist()
    except UnicodeDecodeError:
        rows = f"rows {number + 1} to {number + batch.num_rows}"
        raise UserError(f"{path} is not UTF-8 text ({rows})") from None
    return values


FORMATS: dict[str, Format] = {
    ".txt": Format(_read_txt, "document"),
    ".jsonl": Format(_read_jsonl),
    ".json": Format(_read_json),
    ".csv": Format(_read_csv),
    ".parquet": Format(_read_parquet, compressed=False),
}
"""The formats by their suffix. A new one is one entry."""

_JSON = json.JSONDecoder(parse_int=lambda digits: 0)
"""Numbers are never text, and Python makes none of more than 4,300 digits."""


def _from_json(text: str, where: str, hint: str = "") -> Any:
    try:
        return _JSON.decode(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{where} is not JSON: {error.msg}{hint}") from None
    except RecursionError:
        raise UserError(f"{where} is not JSON that can be read: nested too deeply") from None


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
