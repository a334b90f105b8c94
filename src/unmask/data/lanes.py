"""The lanes that a stream is read in: each has documents of its own, in an order of its own.

A lane is an endless sequence of blocks that the seed and the corpus decide. Any number of processes
can read any lanes, from any block on, if they know the `Place` where it begins.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from unmask.base.errors import UserError
from unmask.data.documents import Document, Shard
from unmask.data.encode import ids_of, token_type
from unmask.data.order import permutation, shares
from unmask.data.tokenizers import Tokenizer
from unmask.diffusion.noise import Stream

# Documents encoded in one call.
_DOCUMENTS_AT_A_TIME = 64
_LETTERS_AT_A_TIME = 2**17
_UNEVEN = 1.1  # how much more text one lane may have than another


class Place(NamedTuple):
    """Where in a lane's documents a block begins.

    Attributes:
        epoch: how often all documents have been read.
        shard: number in the epoch's order of the lane's shards, where the window begins.
        row: of that shard, where the window begins.
        taken: documents of the window that come before the block's first one.
        offset: tokens of that document which the blocks before hold.
    """

    epoch: int = 0
    shard: int = 0
    row: int = 0
    taken: int = 0
    offset: int = 0


class Block(NamedTuple):
    """A block of a lane.

    Attributes:
        part: which corpus of the mixture it is of.
        tokens: (L,).
        length: tokens before the padding.
        after: where the part's next block begins.
        prompt: tokens at its beginning that are a prompt.
    """

    part: int
    tokens: NDArray[Any]
    length: int
    after: Place
    prompt: int = 0


class Piece(NamedTuple):
    """Rows of a shard that belong to one lane: those r >= first with r % of == which."""

    shard: Shard
    first: int
    which: int
    of: int


@dataclass(frozen=True)
class Corpus:
    """A corpus of a mixture, or the only one, to be read in lanes.

    Attributes:
        name: what the user called it.
        shards: in a fixed order.
        held_out: how many of each shard's first rows are not trained on.
        weight: its share of the blocks, over the sum of all corpora's.
    """

    name: str
    shards: tuple[Shard, ...]
    held_out: tuple[int, ...]
    weight: int = 1

    def pieces(self, lane: int, lanes: int) -> list[Piece]:
        """What of the shards is a lane's: no row is two lanes', and all lanes have about as much.

        Shards are cut only where the lanes cannot share them evenly: each lane that has a part of
        one reads all of it.
        """
        of = next(k for k in range(1, lanes + 1) if lanes % k == 0 and self._is_even(k, lanes))
        mine = range(lane, len(self.shards) * of, lanes)
        return [Piece(self.shards[k // of], self.held_out[k // of], k % of, of) for k in mine]

    def _is_even(self, of: int, lanes: int) -> bool:
        """Whether the lanes have about as much each where every shard is cut into so many parts."""
        sizes = [shard.size for shard in self.shards for _ in range(of)]
        sums = [sum(sizes[lane::lanes]) for lane in range(lanes)]
        return of == lanes or max(sums) <= _UNEVEN * min(sums)


@dataclass(frozen=True)
class Packing:
    """How a lane's documents become blocks.

    Attributes:
        tokenizer: turns text into tokens.
        block_size: L.
        pad: one document a block; otherwise they are joined and cut into full blocks.
        window: documents of each corpus that are shuffled together in a lane.
    """

    tokenizer: Tokenizer
    block_size: int
    pad: bool
    window: int


@dataclass(frozen=True)
class Lane:
    """One of the lanes of a stream.

    Attributes:
        number: which one.
        lanes: how many there are.
        corpora: of the mixture, or the only one.
        packing: how documents become blocks.
        seed: of the order of the documents.
    """

    number: int
    lanes: int
    corpora: tuple[Corpus, ...]
    packing: Packing
    seed: int

    def blocks(self, first: int, places: Sequence[Place]) -> Iterator[Block]:
        """All blocks from one on, without an end.

        Args:
            first: the number of the first one, from 0.
            places: of each corpus, where its next block begins.
        """
        parts = [self._blocks_of(k, place) for k, place in enumerate(places)]
        if len(parts) == 1:
            yield from parts[0]
        weights = [corpus.weight for corpus in self.corpora]
        for number in count(first):
            which, _ = shares(torch.tensor([number]), weights)
            yield next(parts[int(which)])

    def _blocks_of(self, part: int, place: Place) -> Iterator[Block]:
        block_size, tokenizer = self.packing.block_size, self.packing.tokenizer
        dtype, end = token_type(tokenizer), [tokenizer.separator_id]
        rest = np.zeros(0, dtype)
        last_epoch = place.epoch
        for before, text_ids, prompt, after in self._encoded(part, place):
            ids = np.concatenate([text_ids, end]).astype(dtype)
            if prompt >= block_size:  # no room for an answer
                if after.epoch > last_epoch + 1:  # and none in a whole epoch
                    raise UserError(
                        f"corpus.block_size {block_size}: no prompt of {self.corpora[part].name} "
                        "in one of the lanes leaves room for an answer"
                    )
                continue
            if self.packing.pad:
                block = np.full(block_size, tokenizer.separator_id, dtype)
                block[: len(ids)] = ids[:block_size]
                last_epoch = after.epoch
                yield Block(part, block, min(len(ids), block_size), after, prompt)
                continue
            used = before.offset - len(rest)  # where in the document the first block begins
            rest = np.concatenate([rest, ids[before.offset :]])
            n = len(rest) // block_size
            for k in range(n):
                stop = used + (k + 1) * block_size
                next_place = after if stop == len(ids) else before._replace(offset=stop)
                yield Block(
                    part, rest[k * block_size : (k + 1) * block_size], block_size, next_place
                )
            rest = rest[n * block_size :]

    def _encoded(
        self, part: int, place: Place
    ) -> Iterator[tuple[Place, NDArray[np.int64], int, Place]]:
        """Each document's tokens and how many of them are its prompt; the places around it."""
        documents = self._documents(part, place)
        while True:
            group, letters = list[tuple[Place, Document, Place]](), 0
            while len(group) < _DOCUMENTS_AT_A_TIME and letters < _LETTERS_AT_A_TIME:
                group.append(next(documents))
                letters += len(group[-1][1])
            tokens, prompts = ids_of([text for _, text, _ in group], self.packing.tokenizer)
            for (before, _, after), ids, prompt in zip(group, tokens, prompts, strict=True):
                yield before, ids, prompt, after

    def _documents(self, part: int, place: Place) -> Iterator[tuple[Place, Document, Place]]:
        """The documents from a place on, epoch after epoch, shuffled within windows."""
        corpus = self.corpora[part]
        pieces = corpus.pieces(self.number, self.lanes)
        offset, taken = place.offset, place.taken
        for epoch in count(place.epoch):
            here = place if epoch == place.epoch else Place(epoch)
            empty = here.shard == here.row == 0
            for start, texts, end in self._windows(pieces, here):
                empty = False
                for k, text in list(enumerate(self._shuffled(texts, start)))[taken:]:
                    last = k + 1 == len(texts)
                    after = end if last else start._replace(taken=k + 1)
                    yield start._replace(taken=k, offset=offset), text, after
                    offset = 0
                taken = 0
            if empty:
                raise UserError(
                    f"corpus.streaming: {corpus.name} has too few documents for corpus.lanes "
                    f"{self.lanes}, one of which has none; choose fewer"
                )

    def _windows(
        self, pieces: list[Piece], place: Place
    ) -> Iterator[tuple[Place, list[Document], Place]]:
        """The texts of an epoch in windows, with the places where each and the next one begin."""
        order = permutation(self.seed, Stream.SHARDS, place.epoch, len(pieces), self.number)
        start, texts = place._replace(taken=0, offset=0), list[Document]()
        for k in range(place.shard, len(pieces)):
            first = start.row if k == place.shard else 0
            for row, text in _rows(pieces[order[k]], first):
                texts.append(text)
                if len(texts) == self.packing.window:
                    end = Place(place.epoch, k, row + 1)
                    yield start, texts, end
                    start, texts = end, []
        if texts:
            yield start, texts, Place(place.epoch + 1)

    def _shuffled(self, texts: list[Document], start: Place) -> list[Document]:
        """In an order that is the window's own."""
        name = hashlib.sha256(repr(tuple(start)).encode()).digest()
        number = int.from_bytes(name[:4], "big")
        order = permutation(self.seed, Stream.DOCUMENTS, number, len(texts), self.number)
        return [texts[k] for k in order.tolist()]


def _rows(piece: Piece, first: int) -> Iterator[tuple[int, Document]]:
    """The texts of a piece, and the rows of the shard they are, from a row on."""
    first = max(first, piece.first)
    for row, text in enumerate(islice(piece.shard.read(), first, None), first):
        if row % piece.of == piece.which and text:
            yield row, text
