"""Documents: the texts a corpus is made of, and how some are held out."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, NamedTuple

from unmask.base.errors import UserError
from unmask.base.wording import counted


class Message(NamedTuple):
    """What one says in a conversation; ``role`` is ``system``, ``user``, ``assistant`` ..."""

    role: str
    content: str


@dataclass(frozen=True)
class Prompted:
    """An answer, with the prompt that is read before it and never predicted.

    Its length is that of all its texts, in letters; it is false where the answer is empty.

    Attributes:
        prompt: a text, or the messages that come before the answer.
        answer: what is predicted.
    """

    prompt: str | tuple[Message, ...]
    answer: str

    @property
    def texts(self) -> list[str]:
        """The prompt, or what each of its messages says, and the answer."""
        prompt = [self.prompt] if isinstance(self.prompt, str) else [m.content for m in self.prompt]
        return [*prompt, self.answer]

    def __len__(self) -> int:
        return sum(map(len, self.texts))

    def __bool__(self) -> bool:
        return bool(self.answer)


Document = str | Prompted


def texts_of(documents: Iterable[Document]) -> Iterator[str]:
    """All texts of some documents, a prompt and its answer one after the other."""
    for document in documents:
        yield from [document] if isinstance(document, str) else document.texts


def _plain(document: Document) -> Any:
    """What JSON can say of a document."""
    return document if isinstance(document, str) else asdict(document)


@dataclass(frozen=True)
class Documents:
    """Texts that can be read any number of times, one at a time.

    Attributes:
        name: what the user called them, for messages.
        identity: SHA-256 (hex) of what they are; equal identities mean equal texts in equal order.
        read: starts a new reading. Texts and answers without a single character are left out.
        read_part: which part of them the last reading has read, from 0 to 1; None: not known.
    """

    name: str
    identity: str
    read: Callable[[], Iterator[Document]]
    read_part: Callable[[], float | None] = lambda: None

    def __iter__(self) -> Iterator[Document]:
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
    read: Callable[[], Iterator[Document]]
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

    def read() -> Iterator[Document]:
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
    texts, left = list[Document](), list[tuple[Shard, int]]()
    for shard in shards:
        rows: Iterable[tuple[int, Document]] = [(0, "")]
        if len(texts) < n:
            rows = enumerate(shard.read(), 1)
        for row, text in rows:
            texts.extend([text] if text else [])
            if len(texts) == n:
                left.append((shard, row))
                break
    if not texts:
        raise UserError(f"{name} holds no text")
    whose = f"the first {counted(len(texts), 'document')} of {name}"
    identity = digest("texts", 1, list(map(_plain, texts)))
    return Documents(whose, identity, lambda: iter(texts)), left


def digest(*parts: Any) -> str:
    """SHA-256 (hex) of anything JSON can say."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


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


def _hash(document: Document) -> int:
    text = document if isinstance(document, str) else json.dumps(_plain(document))
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
