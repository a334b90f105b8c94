"""Blocks: token sequences of one length, packed from documents, on disk or in memory."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unmask.base.files import write_whole
from unmask.data.coverage import WHOLE, CharacterCount, Coverage
from unmask.data.documents import Document
from unmask.data.encode import Encoded, encoded, token_type
from unmask.data.order import Part, sample_blocks
from unmask.data.tokenizers import Tokenizer
from unmask.data.transforms import token_order

_FACTS, _TOKENS, _LENGTHS = "facts.json", "tokens.bin", "lengths.bin"
_PROMPTS = "prompts.bin"  # only of documents that have some
_TOKENS_AT_A_TIME = 2**22


@dataclass(frozen=True)
class Blocks:
    """A split, packed.

    Attributes:
        tokens: (N, L) unsigned integers.
        lengths: (N,) tokens in each block before the padding; None where every block is full.
        n_tokens: tokens of the split's documents with their separators, before anything was cut
            off or dropped; of those with a prompt the answers'.
        n_bytes: UTF-8 bytes of the same documents: nats per token * n_tokens / n_bytes / ln 2 is
            bits per byte, exactly where the tokens hold all of the text.
        transform: the order that `batch` gives a block's tokens in, by `unmask.data.transforms`.
        coverage: what of the documents the tokens do not hold.
        mixed: the corpora of a mixture, whose blocks stand one after another; else empty.
        prompts: (N,) tokens at the beginning of each block that are a prompt: they are read, and
            neither predicted nor counted; None where there are none.
        separator: the token between documents, where attention stays within them: it too is read,
            and neither predicted nor counted; None: it is a token like others.
    """

    tokens: "NDArray[Any] | Rows"
    lengths: NDArray[np.int32] | None
    n_tokens: int
    n_bytes: int
    transform: str = "none"
    coverage: Coverage = WHOLE
    mixed: tuple[Part, ...] = ()
    prompts: NDArray[np.int32] | None = None
    separator: int | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def parts(self) -> tuple[Part, ...]:
        """How `unmask.data.order.sample_blocks` is to draw from these blocks."""
        return self.mixed or (Part(len(self)),)

    @property
    def block_size(self) -> int:
        """Tokens in a block, L."""
        return int(self.tokens.shape[1])

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor | None]:
        """Some blocks.

        Args:
            indices: (B,) int64.

        Returns:
            The tokens, (B, L) int64, in the transform's order, and which of them are not padding,
            (B, L) bool or None where there is none.
        """
        rows = indices.numpy()
        x = torch.from_numpy(self.tokens[rows].astype(np.int64))
        lengths = self.lengths_of(indices)
        if self.transform != "none":
            x = x.gather(1, token_order(self.transform, indices, lengths, self.block_size))
        if self.lengths is None:
            return x, None
        return x, torch.arange(self.block_size)[None, :] < lengths[:, None]

    def lengths_of(self, indices: Tensor) -> Tensor:
        """Tokens before the padding in some blocks, (B,) int64."""
        if self.lengths is None:
            return torch.full_like(indices, self.block_size)
        return torch.from_numpy(self.lengths[indices.numpy()].astype(np.int64))

    def prompts_of(self, indices: Tensor) -> Tensor:
        """Tokens of the prompt of some blocks, (B,) int64."""
        if self.prompts is None:
            return torch.zeros_like(indices)
        return torch.from_numpy(self.prompts[indices.numpy()].astype(np.int64))

    def maskable(self, indices: Tensor) -> Tensor | None:
        """Which tokens of some blocks may be masked: they alone are predicted and count.

        Returns:
            (B, L) bool, False at padding, in prompts and, where attention stays within documents,
            at separators; None where all do.
        """
        if self.lengths is None and self.prompts is None and self.separator is None:
            return None
        place = torch.arange(self.block_size)[None, :]
        within = place < self.lengths_of(indices)[:, None]
        within = within & (place >= self.prompts_of(indices)[:, None])
        if self.separator is None:
            return within
        return within & torch.from_numpy(self.tokens[indices.numpy()] != self.separator)

    @property
    def all_maskable(self) -> bool:
        """Whether every token but padding may be masked."""
        return self.prompts is None and self.separator is None

    def n_maskable(self, indices: Tensor) -> Tensor:
        """How many tokens of some blocks may be masked, (B,) int64."""
        if self.separator is not None:
            maskable = self.maskable(indices)
            assert maskable is not None
            return maskable.sum(dim=1)
        return self.lengths_of(indices) - self.prompts_of(indices)

    def token_counts(self, indices: Tensor) -> Tensor:
        """How often each id occurs where tokens may be masked: (largest id + 1,) int64."""
        counts = np.zeros(0, dtype=np.int64)
        for rows in indices.split(max(1, _TOKENS_AT_A_TIME // self.block_size)):
            x, maskable = self.batch(rows)[0], self.maskable(rows)
            ids = (x if maskable is None else x[maskable]).flatten().numpy()
            seen = np.bincount(ids, minlength=len(counts))
            seen[: len(counts)] += counts
            counts = seen
        return torch.from_numpy(counts)

    def unigram_entropy(self) -> float:
        """Entropy of the frequencies of the tokens that may be masked, in nats per token."""
        counts = self.token_counts(torch.arange(len(self))).numpy()
        p = counts[counts > 0] / counts.sum()
        return float(-(p * np.log(p)).sum())

    # --- as a training text (`TrainingText`) ------------------------------------------------------

    def step(self, seed: int, step: int, n: int, mine: Tensor) -> "Drawn":
        """A step's blocks, by the counters alone."""
        return Drawn(self, sample_blocks(seed, step, torch.arange(n), n, self.parts))

    def named(self, seed: int, step: int, n: int) -> str:
        """Their numbers."""
        return (
            f"training blocks {sample_blocks(seed, step, torch.arange(n), n, self.parts).tolist()}"
        )

    def measured(self) -> "Blocks":
        """All of it."""
        return self

    def position(self, gather: Callable[[Tensor], Tensor]) -> dict[str, dict[str, Tensor]]:
        """Nothing: the step says where a run is."""
        return {}

    def restore(self, tensors: Callable[[str], dict[str, Tensor]]) -> None:
        """Nothing to do."""

    def reading(self) -> AbstractContextManager[None]:
        """Nothing to do."""
        return nullcontext()


@dataclass(frozen=True)
class Drawn:
    """The sequences of a training step.

    Attributes:
        blocks: among which they are.
        indices: (n,) int64, which block each sequence is.
        ends: (n,) int64, after how many tokens each is cut off in this step: what is behind counts
            as padding; None: at its block's end.
    """

    blocks: Blocks
    indices: Tensor
    ends: Tensor | None = None

    def batch(self, sequences: Tensor) -> tuple[Tensor, Tensor | None]:
        """Some of the sequences that were asked for, as `Blocks.batch` gives them."""
        x, valid = self.blocks.batch(self.indices[sequences])
        return x, self._until_end(sequences, valid)

    def maskable(self, sequences: Tensor) -> Tensor | None:
        """Which of their tokens may be masked, as `Blocks.maskable` says."""
        return self._until_end(sequences, self.blocks.maskable(self.indices[sequences]))

    def n_maskable(self, sequences: Tensor) -> Tensor:
        """How many tokens of any sequences may be masked, (b,) int64."""
        indices = self.indices[sequences]
        if self.ends is None:
            return self.blocks.n_maskable(indices)
        if self.blocks.separator is not None:
            maskable = self.maskable(sequences)
            assert maskable is not None
            return maskable.sum(dim=1)
        until = torch.minimum(self.blocks.lengths_of(indices), self.ends[sequences])
        return (until - self.blocks.prompts_of(indices)).clamp(min=0)

    def _until_end(self, sequences: Tensor, within: Tensor | None) -> Tensor | None:
        if self.ends is None:
            return within
        place = torch.arange(self.blocks.block_size)[None, :]
        before = place < self.ends[sequences][:, None]
        return before if within is None else within & before


class TrainingText(Protocol):
    """What training asks of a text: blocks at hand, or `unmask.data.stream.TextStream`."""

    def step(self, seed: int, step: int, n: int, mine: Tensor) -> Drawn:
        """The sequences of a step, of which this process needs those of ``mine`` (b,) int64."""

    def named(self, seed: int, step: int, n: int) -> str:
        """What they are called in a message."""

    def measured(self) -> Blocks:
        """What is measured where a recipe goes by the training text."""

    def position(self, gather: Callable[[Tensor], Tensor]) -> dict[str, dict[str, Tensor]]:
        """What a checkpoint holds of where the text is: file name -> tensors.

        Args:
            gather: (N, ...) -> the rows of all processes; each process calls it as often.
        """

    def restore(self, tensors: Callable[[str], dict[str, Tensor]]) -> None:
        """Go on from a checkpoint, whose tensors ``tensors`` gives by the file's name."""

    def reading(self) -> AbstractContextManager[None]:
        """The block in which steps are asked for."""


@dataclass(frozen=True)
class Rows:
    """Rows of several arrays as those of one, read when they are asked for.

    Attributes:
        arrays: (n_k, L) each.
        order: (N,) rows of the arrays one after another; None: all of them as they stand.
    """

    arrays: tuple[NDArray[Any], ...]
    order: NDArray[np.int64] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(N, L)."""
        n = sum(map(len, self.arrays)) if self.order is None else len(self.order)
        return n, self.arrays[0].shape[1]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """(b,) places -> (b, L)."""
        rows = rows if self.order is None else self.order[rows]
        found = np.empty((len(rows), self.shape[1]), dtype=self.arrays[0].dtype)
        first = 0
        for array in self.arrays:
            here = (rows >= first) & (rows < first + len(array))
            found[here] = array[rows[here] - first]
            first += len(array)
        return found


@dataclass(frozen=True)
class Facts:
    """What a packed split holds; ``tokens`` and ``bytes`` as in `Blocks`.

    Attributes:
        lost_bytes: of the characters that the tokenizer drops.
        unknown_tokens: that stand for text which the vocabulary lacks.
    """

    documents: int
    bytes: int
    lost_bytes: int
    tokens: int
    unknown_tokens: int
    blocks: int
    block_size: int
    dtype: str

    @property
    def coverage(self) -> Coverage:
        """The shares of what is lost."""
        return Coverage(
            self.lost_bytes / max(self.bytes, 1), self.unknown_tokens / max(self.tokens, 1)
        )


Packed = Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]
"""Groups of blocks (n, L) with their lengths (n,)."""


def wrap(
    documents: Iterable[NDArray[Any]],
    block_size: int,
    separator: int,
    *,
    keep_rest: bool = False,
) -> Packed:
    """Join the documents, a separator after each, and cut into full blocks.

    Args:
        keep_rest: what is left over becomes a last block, padded; otherwise it is dropped.
    """
    rest = np.zeros(0, dtype=np.int64)
    for tokens in documents:
        rest = np.concatenate([rest, tokens, [separator]])
        n = len(rest) // block_size
        yield rest[: n * block_size].reshape(n, block_size), np.full(n, block_size)
        rest = rest[n * block_size :]
    if keep_rest and len(rest):
        last = np.full((1, block_size), separator, dtype=np.int64)
        last[0, : len(rest)] = rest
        yield last, np.array([len(rest)])


def pad(documents: Iterable[NDArray[Any]], block_size: int, separator: int) -> Packed:
    """One document a block: cut off at its end, or closed by a separator and padded with more."""
    for tokens in documents:
        block = np.full((1, block_size), separator, dtype=np.int64)
        kept = tokens[:block_size]
        block[0, : len(kept)] = kept
        yield block, np.array([min(len(tokens) + 1, block_size)])


PACKINGS: dict[str, Callable[..., Packed]] = {
    "wrap": wrap,
    "pad": pad,
    "cover": partial(wrap, keep_rest=True),
}
"""``cover`` is for evaluation: every token of the text is in one block."""


def write_blocks(
    folder: Path,
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    block_size: int,
    packing: str,
    processes: int = 1,
) -> None:
    """Pack documents into files that `read_blocks` opens.

    Memory does not grow with the corpus, but for a number of each prompt. A document whose prompt
    leaves no room in a block is left out.

    Args:
        packing: a key of `PACKINGS`; ``pad`` for documents with prompts.
        processes: that encode (see `unmask.data.encode.encoded`); the files are the same for any.
    """
    count = {"documents": 0, "bytes": 0, "tokens": 0, "unknown_tokens": 0, "blocks": 0}
    characters, prompts = CharacterCount(), list[NDArray[np.int32]]()

    def tokens_of_documents() -> Iterator[NDArray[Any]]:
        for some in encoded(documents, tokenizer, processes):
            characters.merge(some.characters)
            count["documents"] += len(some.lengths)
            count["bytes"] += some.n_bytes
            count["tokens"] += some.n_tokens
            count["unknown_tokens"] += some.n_unknown
            fitting, their_prompts = _fitting(some, block_size)
            prompts.extend([] if their_prompts is None else [their_prompts])
            yield from fitting

    dtype = token_type(tokenizer)
    packed = PACKINGS[packing](tokens_of_documents(), block_size, tokenizer.separator_id)
    with (folder / _TOKENS).open("wb") as tokens_file, (folder / _LENGTHS).open("wb") as lengths:
        for some_blocks, some_lengths in packed:
            tokens_file.write(some_blocks.astype(dtype).tobytes())
            lengths.write(some_lengths.astype(np.int32).tobytes())
            count["blocks"] += len(some_blocks)
        for file in (tokens_file, lengths):  # on disk before the facts that vouch for them
            file.flush()
            os.fsync(file.fileno())
    if prompts:
        write_whole(folder / _PROMPTS, np.concatenate(prompts).tobytes())
    lost = characters.lost_bytes(tokenizer)
    facts = Facts(**count, lost_bytes=lost, block_size=block_size, dtype=dtype.name)
    write_whole(folder / _FACTS, json.dumps(asdict(facts)).encode())


def _fitting(some: Encoded, block_size: int) -> tuple[list[NDArray[Any]], NDArray[np.int32] | None]:
    """The documents whose prompts leave room for an answer, and the tokens of their prompts."""
    if some.prompts is None:
        return list(some.documents()), None
    fit = some.prompts < block_size
    documents = [d for d, fits in zip(some.documents(), fit, strict=True) if fits]
    return documents, some.prompts[fit].astype(np.int32)


def pack_in_memory(
    texts: Iterable[Document], tokenizer: Tokenizer, block_size: int, packing: str, most_tokens: int
) -> Blocks:
    """Pack the first texts, until they have so many tokens."""
    documents, n_tokens, n_bytes = list[NDArray[Any]](), 0, 0
    prompts = list[NDArray[np.int32]]()
    for some in encoded(texts, tokenizer, processes=1):
        fitting, their_prompts = _fitting(some, block_size)
        documents.extend(fitting)
        prompts.extend([] if their_prompts is None else [their_prompts])
        n_tokens += some.n_tokens
        n_bytes += some.n_bytes
        if n_tokens >= most_tokens:
            break
    packed = list(PACKINGS[packing](documents, block_size, tokenizer.separator_id))
    tokens = [np.zeros((0, block_size), np.int64), *(blocks for blocks, _ in packed)]
    lengths = [np.zeros(0, np.int64), *(some for _, some in packed)]
    held = np.concatenate(lengths).astype(np.int32)
    full = bool((held == block_size).all())
    return Blocks(
        np.concatenate(tokens),
        None if full else held,
        n_tokens,
        n_bytes,
        prompts=np.concatenate(prompts) if prompts else None,
    )


def read_facts(folder: Path) -> Facts | None:
    """What `write_blocks` noted; None if the files are not all there in full."""
    try:
        facts = Facts(**json.loads((folder / _FACTS).read_text()))
        sizes = (folder / _TOKENS).stat().st_size, (folder / _LENGTHS).stat().st_size
        width = np.dtype(facts.dtype).itemsize * facts.block_size
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    numbers = facts.blocks * 4
    prompts = folder / _PROMPTS
    if prompts.is_file() and prompts.stat().st_size != numbers:
        return None
    return facts if sizes == (facts.blocks * width, numbers) else None


def read_blocks(folder: Path, facts: Facts) -> Blocks:
    """Open packed blocks without reading them into memory."""
    shape = (facts.blocks, facts.block_size)
    file = folder / _PROMPTS
    prompts = np.fromfile(file, dtype=np.int32) if file.is_file() else None
    if facts.blocks == 0:  # an empty file cannot be mapped
        empty = np.zeros(shape, dtype=facts.dtype)
        return Blocks(
            empty, None, facts.tokens, facts.bytes, coverage=facts.coverage, prompts=prompts
        )
    tokens = np.memmap(folder / _TOKENS, dtype=facts.dtype, mode="r", shape=shape)
    lengths = np.fromfile(folder / _LENGTHS, dtype=np.int32)
    full = bool((lengths == facts.block_size).all())
    return Blocks(
        tokens,
        None if full else lengths,
        facts.tokens,
        facts.bytes,
        coverage=facts.coverage,
        prompts=prompts,
    )
