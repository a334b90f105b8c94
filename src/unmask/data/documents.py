"""Documents: the texts a corpus is made of, and how some are held out."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from unmask.base.errors import UserError
from unmask.base.wording import counted, listed

_FIELDS_NAMED = 12


@dataclass(frozen=True)
class Documents:
    """Texts that can be read any number of times, one at a time.

    Attributes:
        name: what the user called them, for messages.
        identity: SHA-256 (hex) of what they are; equal identities mean equal texts in equal order.
        read: starts a new reading. Texts without a single character are left out.
        read_part: which part of them the last reading has read, from 0 to 1; None: not known.
    """

    name: str
    identity: str
    read: Callable[[], Iterator[str]]
    read_part: Callable[[], float | None] = lambda: None

    def __iter__(self) -> Iterator[str]:
        """Read the documents from the start.

        Raises:
            UserError: there is none, or a file is not what it should be.
        """
        empty = True
        for text in self.read():
            if text:
                empty = False
                yield text
        if empty:
            raise UserError(f"{self.name} holds no text")


@dataclass(frozen=True)
class Source:
    """A corpus: training documents and, where it has a split of its own, validation documents.

    Attributes:
        summary: what was found where it was looked for, for the user.
    """

    train: Documents
    valid: Documents | None = None
    summary: str = ""


@dataclass(frozen=True)
class Shard:
    """A part of a corpus that is read by itself: a file, or a part of a data set.

    Attributes:
        name: for messages.
        read: starts a new reading; texts without a single character may be among its texts.
        size: of the text, in any unit that is the same for all shards of the corpus.
    """

    name: str
    read: Callable[[], Iterator[str]]
    size: int = 1


@dataclass(frozen=True)
class Shards:
    """A corpus that is read as a stream: training shards and, where there are, validation shards.

    Attributes:
        name: what the user called it.
        identity: SHA-256 (hex) of what can be told without reading it: names, sizes, revisions.
    """

    name: str
    identity: str
    train: tuple[Shard, ...]
    valid: tuple[Shard, ...] = ()


def joined(parts: Sequence[Documents]) -> Documents:
    """One part after another; a single one as it is."""
    if len(parts) == 1:
        return parts[0]
    done = 0

    def read() -> Iterator[str]:
        nonlocal done
        for done, part in enumerate(parts):  # noqa: B007 - it is of the outer function
            yield from part

    def read_part() -> float | None:
        within = parts[done].read_part()
        return None if within is None else (done + within) / len(parts)

    return Documents(
        name=" + ".join(part.name for part in parts),
        identity=digest("joined", 1, [part.identity for part in parts]),
        read=read,
        read_part=read_part,
    )


def first_documents(
    name: str, shards: Sequence[Shard], n: int
) -> tuple[Documents, list[tuple[Shard, int]]]:
    """The first n documents of some shards, in memory; fewer where there are no more.

    Returns:
        Them, and the shards that are not read to their end, with how many rows of each are read.

    Raises:
        UserError: there is none.
    """
    texts, left = list[str](), list[tuple[Shard, int]]()
    for shard in shards:
        rows = enumerate(shard.read(), 1) if len(texts) < n else iter([(0, "")])
        for row, text in rows:
            texts.extend([text] if text else [])
            if len(texts) == n:
                left.append((shard, row))
                break
    if not texts:
        raise UserError(f"{name} holds no text")
    whose = f"the first {counted(len(texts), 'document')} of {name}"
    return Documents(whose, digest("texts", 1, texts), lambda: iter(texts)), left


def digest(*parts: Any) -> str:
    """SHA-256 (hex) of anything JSON can say."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def text_at(row: Mapping[str, Any], field: str, where: str) -> str:
    """Return a record's text.

    Args:
        row: the record.
        field: its field; without one of that name ``a.b`` is the field ``b`` of the field ``a``.
        where: the file and row, for messages.

    Raises:
        UserError: there is no such field, or it is not text that UTF-8 can hold.
    """
    value: Any = row
    inside = ""
    for name in [field] if field in row else field.split("."):
        if not isinstance(value, Mapping) or name not in value:
            names = value if isinstance(value, Mapping) else ()
            raise missing_field(field, [f"{inside}{name}" for name in names], where)
        value, inside = value[name], f"{inside}{name}."
    if not isinstance(value, str):
        raise UserError(f"{where}: field {field!r} is not text but {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UserError(f"{where}: field {field!r} has half a surrogate pair, no text") from None
    return value


def column_of(field: str, columns: Sequence[str], where: str) -> str:
    """The column that holds a field: of its name, or for ``a.b`` the one of the name ``a``.

    Raises:
        UserError: there is none.
    """
    for name in (field, field.partition(".")[0]):
        if name in columns:
            return name
    raise missing_field(field, columns, where)


def missing_field(field: str, fields: Sequence[str], where: str) -> UserError:
    """Build the error for a row that lacks ``field``."""
    names = listed(fields, _FIELDS_NAMED) or "none"
    return UserError(f"{where} has no field {field!r}; its fields: {names} (choose with field=...)")


def hold_out(documents: Documents, fraction: float) -> tuple[Documents, Documents]:
    """Split into training and validation documents, by each document's own hash.

    A document is validation text when its SHA-256, read as a number, is below ``fraction`` of
    the range. So equal documents land on one side, and neither their order nor their number moves
    any other. Where that leaves a side without documents, the cut moves by as little as it can.

    Raises:
        UserError: (on reading) all documents are the same one.
    """

    @cache  # the cut needs a look at the texts, which a cached load must not pay for
    def cut() -> int:
        return _cut(documents, fraction)

    def side(name: str, held_out: bool) -> Documents:
        return Documents(
            name=f"the {name} split of {documents.name}",
            identity=digest(documents.identity, "hold out", fraction, name),
            read=lambda: (text for text in documents if (_hash(text) < cut()) is held_out),
            read_part=documents.read_part,
        )

    return side("training", False), side("validation", True)


def _cut(documents: Documents, fraction: float) -> int:
    """The hash below which a document is held out; at least one document is on each side."""
    wanted = int(fraction * 2**256)
    lowest, highest = 2**256, -1
    for text in documents:
        value = _hash(text)
        lowest, highest = min(lowest, value), max(highest, value)
        if lowest < wanted <= highest:  # both sides have a document: the rest cannot matter
            return wanted
    if lowest == highest:
        raise UserError(
            f"{documents.name} holds one distinct document, so none can be held out: "
            "give corpus.valid_source, or cut a text file with document=paragraph or document=line"
        )
    return min(max(wanted, lowest + 1), highest)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
