"""Orders that the tokens of a block are put in: what is left when locality is taken away.

A transform moves tokens within their block and changes none of them, so the entropy of a block, and
any model's exact likelihood of it, mean the same before and after. Only tokens move: the first n
places hold a block's n tokens and the padding stays behind them, where a causal network needs it.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from unmask.diffusion.noise import Stream, uniform_double

_SEED = 0  # of every order: a transform is part of the corpus, not of a run's randomness

Keys = Callable[[Tensor, int], Tensor]
"""(block indices (B,), L) -> (B, L) or (1, L) keys: tokens are read by increasing key."""


def _as_they_are(indices: Tensor, length: int) -> Tensor:
    return torch.arange(length)[None, :]


def _backwards(indices: Tensor, length: int) -> Tensor:
    return -torch.arange(length)[None, :]


def _one_order(indices: Tensor, length: int) -> Tensor:
    return uniform_double(_SEED, Stream.TRANSFORM, 0, torch.zeros(1, dtype=torch.int64), length)


def _own_order(indices: Tensor, length: int) -> Tensor:
    return uniform_double(_SEED, Stream.TRANSFORM, 1, indices, length)


TRANSFORMS: dict[str, Keys] = {
    "none": _as_they_are,
    "permute-positions": _one_order,
    "shuffle-tokens": _own_order,
    "reverse": _backwards,
}
"""The transforms by the name the configuration calls them.

``permute-positions``: one random order of the positions, the same for every block; a block of
n < L tokens is read in that order with the places beyond n left out. ``shuffle-tokens``: a random
order of each block's own (its index decides), so that only which tokens a block holds is left.
"""


def token_order(name: str, indices: Tensor, lengths: Tensor, block_size: int) -> Tensor:
    """Which token of its block stands at each place after a transform.

    Args:
        name: a key of `TRANSFORMS`.
        indices: (B,) int64, the blocks' places in their split.
        lengths: (B,) int64, tokens of each block before its padding.
        block_size: L.

    Returns:
        (B, L) int64, each row a permutation of 0..L-1 that leaves the padding where it is.
    """
    places = torch.arange(block_size)
    keys = TRANSFORMS[name](indices, block_size).double()
    keys = keys.expand(len(indices), -1).masked_fill(places >= lengths[:, None], torch.inf)
    return keys.argsort(dim=1, stable=True)
