"""A training text read as it is trained on: for corpora that no memory or disk holds.

The blocks of a stream have an order that the seed and the corpus decide: block n stands in one of
the lanes (`unmask.data.lanes`), and a step takes the next blocks of all lanes. Each process reads,
encodes and packs the lanes that its samples come from, in workers, ahead of the training.
"""

import multiprocessing
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from unmask.base.errors import UserError
from unmask.data.blocks import Blocks, Drawn, pack_in_memory
from unmask.data.documents import Document
from unmask.data.encode import begin_worker, cores, forking, starting_workers
from unmask.data.lanes import Block, Corpus, Lane, Packing, Place
from unmask.data.mixture import in_proportion
from unmask.data.order import permutation
from unmask.data.transforms import token_order
from unmask.diffusion.noise import Stream

STATE = "stream"
"""The file of a checkpoint that says where the stream is."""

# In a message from a worker: few enough that the first comes soon.
_TOKENS_AT_A_TIME, _BLOCKS_AT_A_TIME = 2**15, 64
_MESSAGES_AHEAD = 8  # of each worker
_FEWEST_PLACES = 8  # of a lane in a batch: with fewer, its texts would always have the same rates
_MEASURED_TOKENS = 2**21


class _Message(NamedTuple):
    """Some blocks of a lane from a worker, or what went wrong."""

    lane: int
    blocks: list[Block]
    error: str = ""


class _Reader(IterableDataset):  # type: ignore[type-arg]
    """What the workers do: the blocks of some lanes, a few of each in turn."""

    def __init__(self, lanes: list[Lane], firsts: list[int], places: list[list[Place]]) -> None:
        self._lanes, self._firsts, self._places = lanes, firsts, places
        most = max(1, _TOKENS_AT_A_TIME // lanes[0].packing.block_size)
        self._at_a_time = min(most, _BLOCKS_AT_A_TIME)

    def __iter__(self) -> Iterator[_Message]:
        worker = get_worker_info()
        mine = slice(worker.id, None, worker.num_workers) if worker else slice(None)
        read = [
            (lane.number, lane.blocks(first, places))
            for lane, first, places in zip(
                self._lanes[mine], self._firsts[mine], self._places[mine], strict=True
            )
        ]
        try:
            for number, blocks in cycle(read):
                yield _Message(number, list(islice(blocks, self._at_a_time)))
        except UserError as error:  # which would come out with a traceback in its message
            yield _Message(-1, [], str(error))


@dataclass(frozen=True)
class Settings:
    """How a stream is read.

    Attributes:
        packing: of its documents.
        lanes: how many it is read in.
        transform: the order of a block's tokens, by `unmask.data.transforms`.
        processes: that read it; 0: one for each core.
        separator: as of `unmask.data.blocks.Blocks`.
    """

    packing: Packing
    lanes: int
    transform: str = "none"
    processes: int = 0
    separator: int | None = None


class TextStream:
    """The training blocks of a stream, a step's at a time; each process has one."""

    def __init__(self, corpora: Sequence[Corpus], settings: Settings) -> None:
        self._corpora, self._settings = tuple(corpora), settings
        self._blocks_before = 0  # of all steps so far
        self._taken = np.zeros(settings.lanes, dtype=np.int64)  # of each lane, here
        self._places = [[Place() for _ in corpora] for _ in range(settings.lanes)]
        self._waiting: dict[int, deque[Block]] = {}
        self._messages: Any = None  # what the workers send, as an iterator of `_Message`
        self._readers: list[BaseProcess] = []

    def step(self, seed: int, step: int, n: int, mine: Tensor) -> "Drawn":
        """The blocks of a step; steps are asked for in their order, each once.

        Args:
            seed: the run's seed, the same at every step.
            step: the optimiser step.
            n: how many sequences it has.
            mine: (b,) int64, those of them whose blocks are asked for.
        """
        lane, number = places_in_lanes(seed, step, self._blocks_before, n, self._settings.lanes)
        separator = self._settings.separator
        counted = self._settings.packing.pad or separator is not None
        wanted = torch.arange(n) if counted else mine  # for how many tokens all have
        needed = sorted(set(lane[wanted].tolist()))
        self._begin(seed, needed)
        tokens = torch.zeros(n, self._settings.packing.block_size, dtype=torch.int64)
        lengths = torch.full((n,), self._settings.packing.block_size)
        prompts = torch.zeros(n, dtype=torch.int32)
        for k in needed:
            rows = (lane == k).nonzero().squeeze(1)
            for row in rows[number[rows].argsort()].tolist():
                block = self._block(k, int(number[row]))
                tokens[row] = torch.from_numpy(block.tokens.astype(np.int64))
                lengths[row], prompts[row] = block.length, block.prompt
        self._blocks_before += n
        if self._settings.transform != "none":
            index = (number * self._settings.lanes + lane) % 2**32
            length = self._settings.packing.block_size
            order = token_order(self._settings.transform, index, lengths, length)
            tokens = tokens.gather(1, order)
        some = lengths.numpy().astype(np.int32) if self._settings.packing.pad else None
        n_tokens = int(lengths.sum())
        read_only = prompts.numpy() if prompts.any() else None
        blocks = Blocks(tokens.numpy(), some, n_tokens, 0, prompts=read_only, separator=separator)
        return Drawn(blocks, torch.arange(n))

    def named(self, seed: int, step: int, n: int) -> str:
        """What a step's blocks are called, for messages."""
        return f"the {n} blocks of that step of the stream"

    def measured(self) -> Blocks:
        """The beginning of the text in its own order, packed in memory: what is measured on it."""
        packing, weights = self._settings.packing, [corpus.weight for corpus in self._corpora]
        how = packing.tokenizer, packing.block_size, "pad" if packing.pad else "wrap"
        found = [
            pack_in_memory(
                beginning(corpus), *how, _MEASURED_TOKENS * corpus.weight // sum(weights)
            )
            for corpus in self._corpora
        ]
        for corpus, blocks in zip(self._corpora, found, strict=True):
            if not len(blocks):
                raise UserError(f"{corpus.name} is shorter than a block, too short to be measured")
        return in_proportion(found, weights)

    # --- where it is ----------------------------------------------------------------------------

    def position(self, gather: Callable[[Tensor], Tensor]) -> dict[str, dict[str, Tensor]]:
        """What a checkpoint holds of it: file name -> tensors.

        Args:
            gather: (N, ...) -> the rows of all processes, each of which knows the lanes it reads.
        """
        lanes = self._settings.lanes
        mine = torch.tensor(
            [
                [taken, *np.ravel(places)]
                for taken, places in zip(self._taken, self._places, strict=True)
            ],
            dtype=torch.int64,
        )
        every = gather(mine).view(-1, lanes, mine.shape[1])
        latest = every[every[:, :, 0].argmax(dim=0), torch.arange(lanes)]
        return {
            STATE: {
                "blocks": torch.tensor(self._blocks_before),
                "taken": latest[:, 0].contiguous(),
                "places": latest[:, 1:].reshape(lanes, len(self._corpora), -1),
            }
        }

    def restore(self, tensors: Callable[[str], dict[str, Tensor]]) -> None:
        """Go on where `position` was asked for.

        Args:
            tensors: a checkpoint's, by the name of the file.
        """
        found = tensors(STATE)
        self._blocks_before = int(found["blocks"])
        self._taken = found["taken"].numpy().copy()
        self._places = [[Place(*place) for place in lane] for lane in found["places"].tolist()]
        self._end()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """The block in which steps are asked for; what reads the stream ends with it.

        Raises:
            UserError: a worker was killed. The news comes at any moment, whatever the block does.
        """
        try:
            yield
        except RuntimeError as error:
            if not str(error).startswith("DataLoader worker"):
                raise
            raise UserError(
                f"a process that reads the stream has ended ({str(error).splitlines()[0]}); "
                "where memory ran out, choose a smaller corpus.shuffle or corpus.processes"
            ) from error
        finally:
            self._end()

    # --- from the workers -----------------------------------------------------------------------

    def _begin(self, seed: int, lanes: list[int]) -> None:
        """Start the workers, or start them anew where more lanes are needed than before."""
        if self._messages is not None and self._waiting.keys() >= {*lanes}:
            return
        numbers = sorted({*lanes, *self._waiting})
        self._waiting = {number: deque() for number in numbers}
        reader = _Reader(
            [
                Lane(k, self._settings.lanes, self._corpora, self._settings.packing, seed)
                for k in numbers
            ],
            [int(self._taken[k]) for k in numbers],
            [self._places[k] for k in numbers],
        )
        self._end()
        before = multiprocessing.active_children()
        with starting_workers(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of more workers than cores: as they were asked for
            self._messages = iter(
                DataLoader(
                    reader,
                    batch_size=None,
                    num_workers=self._workers(len(numbers)),
                    collate_fn=_as_it_is,
                    prefetch_factor=_MESSAGES_AHEAD,
                    multiprocessing_context=forking(),
                    worker_init_fn=_init_worker,
                )
            )
        self._readers = [p for p in multiprocessing.active_children() if p not in before]

    def _end(self) -> None:
        """End the workers, of which Python's end would wait for those that read on for ever.

        An error's traceback can keep the iterator, so that dropping it is not enough, and torch has
        no public way to end one.
        """
        if self._messages is not None:
            self._messages._shutdown_workers()
        for reader in self._readers:
            reader.kill()  # one that waits for a disk or the network has not heard of it
        self._messages, self._readers = None, []

    def _workers(self, lanes: int) -> int:
        """As many as can share the lanes evenly: so none runs ahead of the others."""
        here = cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        most = max(1, self._settings.processes or here)
        return max(k for k in range(1, lanes + 1) if lanes % k == 0 and k <= most)

    def _block(self, lane: int, number: int) -> Block:
        """A block of a lane; those before it are passed over."""
        while True:
            block = self._next(lane)
            self._places[lane][block.part] = block.after
            self._taken[lane] += 1
            if self._taken[lane] > number:
                return block

    def _next(self, lane: int) -> Block:
        while not self._waiting[lane]:
            message: _Message = next(self._messages)
            if message.error:
                raise UserError(message.error)
            self._waiting[message.lane].extend(message.blocks)
        return self._waiting[lane].popleft()


def places_in_lanes(seed: int, step: int, before: int, n: int, lanes: int) -> tuple[Tensor, Tensor]:
    """Which blocks a step's sequences are.

    Blocks go to the lanes in turn. In a batch a lane's stand together, so that a process needs few
    lanes, and in a random order, as places decide mask rates. A batch of few blocks is in a random
    order as a whole.

    Args:
        before: blocks of all steps before.
        n: blocks of this step.

    Returns:
        The lane of each, and its number in that lane: (n,) int64 each.
    """
    first = (before + torch.arange(lanes)) // lanes
    some = (before + n + torch.arange(lanes)) // lanes - first
    lane = torch.arange(lanes).repeat_interleave(some)
    number = torch.arange(n) - (some.cumsum(0) - some)[lane] + first[lane]
    order = permutation(seed, Stream.PLACES, step, n)
    if n >= _FEWEST_PLACES * lanes:
        order = order[lane[order].argsort(stable=True)]
    return lane[order], number[order]


def beginning(corpus: Corpus) -> Iterator[Document]:
    """The training texts in the order of the shards."""
    for shard, first in zip(corpus.shards, corpus.held_out, strict=True):
        yield from filter(None, islice(shard.read(), first, None))


def _as_it_is(message: Any) -> Any:
    return message


def _init_worker(_: int) -> None:
    begin_worker()
