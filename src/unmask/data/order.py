"""The data order, from counters: which blocks a step reads."""

from functools import lru_cache

import torch
from torch import Tensor

from unmask.diffusion.noise import Stream, uniform_double


def sample_blocks(seed: int, step: int, slots: Tensor, batch_size: int, n_blocks: int) -> Tensor:
    """Block indices of some samples of a step's global batch.

    Samples are numbered through the run; every n_blocks of them are an epoch, which visits each
    block once in an order of its own.

    Args:
        seed: the run's seed.
        step: the optimiser step.
        slots: (b,) int64, the samples' places in the global batch, in [0, batch_size).
        batch_size: samples in the global batch.
        n_blocks: blocks in the training split.

    Returns:
        (b,) int64 in [0, n_blocks).
    """
    number = step * batch_size + slots
    epochs, places = number // n_blocks, number % n_blocks
    blocks = torch.empty_like(number)
    for epoch in epochs.unique().tolist():
        here = epochs == epoch
        blocks[here] = _order(seed, epoch, n_blocks)[places[here]]
    return blocks


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, n_blocks: int) -> Tensor:
    """A random permutation of the blocks: (n_blocks,) int64."""
    keys = uniform_double(seed, Stream.ORDER, epoch, torch.zeros(1, dtype=torch.int64), n_blocks)
    return torch.argsort(keys[0], stable=True)
