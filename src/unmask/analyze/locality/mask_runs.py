"""Mask runs: how long the masked stretch around a target is, and how far the nearest visible token.

Every token is masked on its own at rate t; the target is a masked token, any of a block's L alike.
Closed forms, in a text without ends and in a block of L tokens; and the same counted in masks.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.diffusion.masking import Masking
from unmask.diffusion.noise import Stream, uniform


@dataclass(frozen=True)
class MaskRuns:
    """Distributions around a masked target.

    Attributes:
        run: (L,) chance that its masked run has k + 1 tokens, itself included; the last entry of
            a text without ends holds all longer runs too.
        nearest: (L,) chance that the nearest visible token is k + 1 away, on either side; the last
            entry (no distance in a block is L) that there is none, or none nearer than L.
    """

    run: Tensor
    nearest: Tensor


def endless(t: float, length: int) -> MaskRuns:
    """In a text without ends: P(run = k) = k t^(k-1) (1-t)^2, P(nearest > d) = t^(2d).

    Args:
        t: mask rate in (0, 1).
        length: entries of each distribution.
    """
    k = torch.arange(1, length + 1, dtype=torch.float64)
    run = k * t ** (k - 1) * (1 - t) ** 2
    beyond = t ** (2 * (k - 1))
    nearest = beyond * (1 - t**2)
    run[-1], nearest[-1] = 1 - run[:-1].sum(), beyond[-1]
    return MaskRuns(run, nearest)


def in_block(t: float, length: int) -> MaskRuns:
    """In a block of L tokens, the target at any place alike.

    A run of k < L tokens may start at L - k + 1 places, at two of which an end of the block closes
    it; each holds k targets. The nearest visible token is beyond d when the min(d, i - 1) +
    min(d, L - i) other tokens within d of place i are masked.
    """
    k = torch.arange(1, length + 1, dtype=torch.float64)
    inner = (length - k - 1).clamp(min=0) * (1 - t) ** 2
    run = k * t ** (k - 1) * (inner + 2 * (1 - t)) / length
    run[-1] = t ** (length - 1)
    place, d = torch.arange(length)[:, None], torch.arange(length)[None, :]
    others = torch.minimum(d, place) + torch.minimum(d, length - 1 - place)
    beyond = (t ** others.double()).mean(dim=0)  # P(nearest > d), d = 0..L-1
    return MaskRuns(run, torch.cat([beyond[:-1] - beyond[1:], beyond[-1:]]))


def around(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Length of the masked run and distance to the nearest visible token, for each masked token.

    Args:
        mask: (n, L) bool, True where masked.

    Returns:
        (n, L) int64 each, meaningless where not masked; a distance of L where none is visible.
    """
    length = mask.shape[1]
    place = torch.arange(length).expand_as(mask)
    before = place.masked_fill(mask, -1).cummax(dim=1).values  # the last visible place, or -1
    after = place.masked_fill(mask, length).flip(1).cummin(dim=1).values.flip(1)
    left = torch.where(before >= 0, place - before, length)
    right = torch.where(after < length, after - place, length)
    return after - before - 1, torch.minimum(left, right)


def empirical(t: float, length: int, *, masking: Masking, samples: int, seed: int) -> MaskRuns:
    """What a recipe's masking gives.

    Args:
        t: mask rate.
        length: L.
        masking: how tokens are hidden, before a model refines that.
        samples: blocks drawn.
        seed: of the noise.
    """
    u = uniform(seed, Stream.MASK_RUNS, 0, torch.arange(samples), length)
    mask = masking.mask(torch.full((samples,), t), u, None)
    run, nearest = (
        torch.bincount(found[mask] - 1, minlength=length).double() / mask.sum().clamp(min=1)
        for found in around(mask)
    )
    return MaskRuns(run, nearest)
