"""The data order, from counters: which blocks a step reads."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from unmask.diffusion.noise import Stream, uniform_double


class Part(NamedTuple):
    """A corpus of a mixture, or the only one.

    Attributes:
        n_blocks: blocks in its training split; all parts' stand one after another.
        weight: whole; its share of the samples, over the sum of all weights.
    """

    n_blocks: int
    weight: int = 1


def sample_blocks(
    seed: int, step: int, slots: Tensor, batch_size: int, parts: Sequence[Part]
) -> Tensor:
    """Block indices of some samples of a step's global batch.

    Samples are numbered through the run, and `shares` deals the numbers out to the parts. In a
    mixture a step's numbers go to its places in a random order, so that no place belongs to one
    corpus. Every n_blocks samples of a part are an epoch of it, which visits each of its blocks
    once in an order of its own.

    Args:
        seed: the run's seed.
        step: the optimiser step.
        slots: (b,) int64, the samples' places in the global batch, in [0, batch_size).
        batch_size: samples in the global batch.
        parts: of the training split.

    Returns:
        (b,) int64 in [0, the sum of n_blocks).
    """
    if len(parts) > 1:
        slots = permutation(seed, Stream.CORPUS, step, batch_size)[slots]
    which, number = shares(step * batch_size + slots, [part.weight for part in parts])
    blocks = torch.empty_like(number)
    first = 0
    for k, part in enumerate(parts):
        epochs, places = number // part.n_blocks, number % part.n_blocks
        for epoch in epochs[which == k].unique().tolist():
            here = (which == k) & (epochs == epoch)
            order = _epoch(seed, epoch, part.n_blocks)
            blocks[here] = first + order[places[here]]
        first += part.n_blocks
    return blocks


def shares(numbers: Tensor, weights: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Deal numbered samples out in proportion to some weights.

    The first part gets every sample at which its share of those so far, rounded, goes up by one;
    the others divide what is left in the same way. So how many of the first n each part has had is
    a formula, and resuming needs no count of what came before.

    Args:
        numbers: (b,) int64 from 0.
        weights: whole and above 0.

    Returns:
        The part of each sample, and its number among the samples of that part: (b,) int64 each.
    """
    which = torch.full_like(numbers, len(weights) - 1)
    number = numbers.clone()
    left = torch.ones_like(numbers, dtype=torch.bool)
    for k, weight in enumerate(weights[:-1]):
        total = sum(weights[k:])
        before = (2 * number * weight + total) // (2 * total)
        after = (2 * (number + 1) * weight + total) // (2 * total)
        mine = left & (after > before)
        which[mine] = k
        left &= ~mine
        number = torch.where(mine, before, torch.where(left, number - before, number))
    return which, number


@lru_cache(maxsize=8)
def _epoch(seed: int, epoch: int, n_blocks: int) -> Tensor:
    return permutation(seed, Stream.ORDER, epoch, n_blocks)


def permutation(seed: int, stream: Stream, step: int, n: int, sample: int = 0) -> Tensor:
    """A random permutation by the counters: (n,) int64."""
    keys = uniform_double(seed, stream, step, torch.tensor([sample]), n)
    return torch.argsort(keys[0], stable=True)
