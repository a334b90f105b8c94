"""How much of the information a model can use sits near: cross-entropy within a window.

A target's token is predicted with the tokens within distance r visible and all others masked. The
answer is about the model: information it has not learnt to use, or cannot use in such an input
(which its recipe may hardly draw), does not count.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.base.errors import UserError
from unmask.data.blocks import Blocks
from unmask.diffusion.noise import Stream, uniform
from unmask.diffusion.objective import predicted_cross_entropy
from unmask.model.network import Network

SIDES = ("both", "left", "right")


@dataclass(frozen=True)
class WindowProfile:
    """Cross-entropies by window.

    Attributes:
        radii: r = 0, 1, 2, 4, ..., L in tokens; 0: nothing is visible.
        ce: side -> (n, R) cross-entropy of each block's targets, mean, in nats.
        unigram: (n,) the same of a model without context: the split's token frequencies.
    """

    radii: list[int]
    ce: dict[str, Tensor]
    unigram: Tensor


def radii_for(length: int) -> list[int]:
    """0, the powers of two below L, and L."""
    return [0, *(2**k for k in range(length.bit_length()) if 2**k < length), length]


def visible_within(place: Tensor, radius: int, side: str, length: int) -> Tensor:
    """Which tokens are visible to a target: those within the radius on that side, not itself.

    Args:
        place: (B,) the targets.
        radius: in tokens.
        side: ``both``, ``left`` or ``right``.

    Returns:
        (B, L) bool.
    """
    offset = torch.arange(length, device=place.device)[None, :] - place[:, None]
    near = (offset.abs() <= radius) & (offset != 0)
    return near if side == "both" else near & ((offset < 0) if side == "left" else (offset > 0))


@torch.no_grad()
def window_profile(
    model: Network,
    blocks: Blocks,
    chosen: Tensor,
    mask_id: int,
    *,
    targets: int = 2,
    batch_size: int = 64,
    seed: int = 0,
    on_pass: Callable[[], None] = lambda: None,
) -> WindowProfile:
    """Measure the profile on some blocks.

    Args:
        model: a denoiser, in evaluation mode.
        chosen: (n,) int64 block indices.
        targets: places in each block, drawn from its middle half, so that windows have two sides.
        batch_size: sequences per forward pass.
        seed: of the places.
        on_pass: called after each radius on each side.
    """
    if blocks.separator is not None:
        raise UserError(
            "the run keeps attention within documents (corpus.attend document), so no window over "
            "its blocks can be measured"
        )
    device = model.head.weight.device
    x, valid = blocks.batch(chosen.repeat_interleave(targets))
    n, length = x.shape
    full = torch.full((n,), length) if valid is None else valid.sum(dim=1)
    u = uniform(seed, Stream.WINDOW, 0, chosen, targets).flatten()
    place = (full // 4 + u * (full - full // 2)).long().clamp(max=length - 1)
    target = torch.arange(length)[None, :] == place[:, None]
    counts = blocks.token_counts(torch.arange(len(blocks))).double()
    unigram = -(counts / counts.sum()).log()[x[target]]
    radii = radii_for(length)
    ce = {side: torch.zeros(n, len(radii), dtype=torch.float64) for side in SIDES}
    for side in SIDES:
        for column, radius in enumerate(radii):
            if radius == 0 and side != "both":
                ce[side][:, 0] = ce["both"][:, 0]
                continue
            shown = visible_within(place, radius, side, length)
            hidden = ~shown if valid is None else ~shown & valid
            for rows in torch.arange(n).split(batch_size):
                inputs = x[rows].masked_fill(hidden[rows], mask_id).to(device)
                real = None if valid is None else valid[rows].to(device)
                predicted = target[rows].to(device)
                states = model(inputs, real, predicted=predicted)
                found, _ = predicted_cross_entropy(
                    states, x[rows].to(device), predicted, model.head
                )
                ce[side][rows, column] = found.cpu().double()
            on_pass()

    def by_block(values: Tensor) -> Tensor:
        return values.view(-1, targets, *values.shape[1:]).mean(dim=1)

    return WindowProfile(radii, {s: by_block(v) for s, v in ce.items()}, by_block(unigram))


def information_within(profile: WindowProfile, side: str) -> tuple[Tensor, Tensor]:
    """Unigram less window cross-entropy in nats, paired by target: (R,) means, standard errors."""
    gain = profile.unigram[:, None] - profile.ce[side]
    return gain.mean(dim=0), gain.std(dim=0) / len(gain) ** 0.5


def distance_holding(profile: WindowProfile, side: str, part: float) -> tuple[float, float] | None:
    """The distance within which a part of the information of the whole block sits.

    Between two radii the information is interpolated over log(1 + r); where it falls, the highest
    value so far counts.

    Returns:
        The distance in tokens and its jackknife standard error over blocks; None where the whole
        block tells the model nothing.
    """
    gain = profile.unigram[:, None] - profile.ce[side]
    n = len(gain)
    value = _crossing(gain.mean(dim=0), profile.radii, part)
    without = [_crossing(mean, profile.radii, part) for mean in (gain.sum(dim=0) - gain) / (n - 1)]
    if value is None or any(w is None for w in without):
        return None
    spread = torch.tensor([w for w in without if w is not None], dtype=torch.float64)
    return value, float(((n - 1) * spread.var(correction=0)).sqrt())


def _crossing(gain: Tensor, radii: list[int], part: float) -> float | None:
    envelope = gain.clamp(min=0).cummax(dim=0).values
    wanted = part * float(gain[-1])
    if wanted <= 0:
        return None
    last = int((envelope >= wanted).nonzero()[0])
    if last == 0:
        return 0.0
    low, high = float(envelope[last - 1]), float(envelope[last])
    ends = torch.tensor(radii[last - 1 : last + 1], dtype=torch.float64).log1p()
    return float((ends[0] + (ends[1] - ends[0]) * (wanted - low) / (high - low)).expm1())
