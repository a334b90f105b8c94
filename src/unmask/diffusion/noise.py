"""Randomness from counters: every variate is a function of (seed, stream, step, sample).

Nothing here has state. A run that is resumed, split over ranks or accumulated in micro-batches
asks for the same counters and so gets the same numbers; two samples never share theirs.
The generator is Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"),
in 64-bit integer tensor operations, so that every device gives the same bits.
"""

from enum import IntEnum, unique

import torch
from torch import Tensor

from unmask.base.numbers import check_seed

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_LOW = 0xFFFFFFFF
GRAIN = 2.0**-24
"""What `uniform` gives multiples of."""


@unique
class Stream(IntEnum):
    """What a variate is for: two purposes never read the same counter."""

    ORDER = 0
    TIME = 1
    MASK = 2
    EVAL_SIZE = 3
    EVAL_MASK = 4
    SAMPLE_UNMASK = 5
    SAMPLE_TOKEN = 6
    REVEAL = 7
    PAIRS = 16
    MASK_RUNS = 17
    WINDOW = 18
    TRANSFORM = 20
    SIGNAL_BLOCK = 21
    SIGNAL_TIME = 22
    SIGNAL_MASK = 23
    CURVE_TIME = 24
    CURVE_MASK = 25
    CORPUS = 26
    SHARDS = 27
    DOCUMENTS = 28
    PLACES = 29
    LENGTH = 30
    STATES = 32


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> list[Tensor]:
    """Encrypt 128-bit counters under a 64-bit key.

    Args:
        counter: four broadcastable int64 tensors, each holding a 32-bit word.
        key: two 32-bit words.

    Returns:
        Four int64 tensors of 32-bit random words, of the counters' broadcast shape.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        high0, low0 = _multiply(c0, _MULTIPLIERS[0])
        high1, low1 = _multiply(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _KEY_STEPS[0]) & _LOW, (k1 + _KEY_STEPS[1]) & _LOW
    return [c0, c1, c2, c3]


def _multiply(word: Tensor, constant: int) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of a 32 x 32-bit product (int64 wraps, its 64 bits are exact)."""
    product = word * constant
    return (product >> 32) & _LOW, product & _LOW


def uniform(seed: int, stream: Stream, step: int, samples: Tensor, n: int) -> Tensor:
    """Draw n uniform variates for each sample.

    Args:
        seed: an int64 (`unmask.base.numbers.check_seed`), which is the key.
        stream: what they are for.
        step: the optimiser step, epoch or evaluation draw, in [0, 2^32).
        samples: (B,) int64 sample indices in [0, 2^32), on the device to draw on.
        n: variates per sample.

    Returns:
        (B, n) float32 in [0, 1), multiples of `GRAIN`.
    """
    words = _words(seed, stream, step, samples, n)
    return (words >> 8).to(torch.float32) * GRAIN


def uniform_double(seed: int, stream: Stream, step: int, samples: Tensor, n: int) -> Tensor:
    """Draw as `uniform` does, with 53 random bits: (B, n) float64 in [0, 1) on the CPU."""
    words = _words(seed, stream, step, samples.cpu(), 2 * n)
    high, low = words[:, :n] >> 5, words[:, n:] >> 6
    return (high * 2**26 + low).to(torch.float64) * 2.0**-53


def _words(seed: int, stream: Stream, step: int, samples: Tensor, n: int) -> Tensor:
    """(B, n) int64 tensor of 32-bit random words."""
    check_seed(seed)
    quarter = torch.arange(-(-n // 4), device=samples.device)[None, :]
    counter = (
        quarter,
        samples[:, None],
        torch.full_like(quarter, step),
        torch.full_like(quarter, int(stream)),
    )
    words = philox(counter, (seed & _LOW, (seed >> 32) & _LOW))
    return torch.stack(words, dim=-1).flatten(1)[:, :n]
