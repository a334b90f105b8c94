"""Masked positions that come in late: a bidirectional pass that costs little for what is hidden.

A mask token says nothing about itself, so the first blocks are run on the visible tokens alone. In
the last blocks the masked positions take part as any other. In the very last one every position is
a key, but only those are computed further whose states are read.

The tokens that pass a block stand packed in one matrix, (N, D), whatever row they are from; for
attention they are spread over (B, K), K being what a row has at most. On an accelerator bounds make
N and K constants: what is too much in a matrix then is some other position, which goes nowhere.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from unmask.model.layers import Block, attend

Angles = tuple[Tensor, Tensor]
"""Cosine and sine of positions' angles, each (N, 1, d)."""
Run = Callable[..., Tensor]
"""Calls its first argument on the others: plainly, or computing it again for the gradient."""


class Bounds(NamedTuple):
    """What a batch has at most, where counting would wait for the device.

    Attributes:
        predicted: positions whose state is read.
        visible: visible tokens.
        in_row: visible tokens in one row.
    """

    predicted: int
    visible: int
    in_row: int


@dataclass(frozen=True)
class Packed:
    """Some positions of a batch, packed.

    Attributes:
        where: (N,) int64, their flat positions in (B, L); B L of what is too much.
        angles: of each.
    """

    where: Tensor
    angles: Angles


def pack(chosen: Tensor, angles: Angles, bound: int | None) -> Packed:
    """Pack the positions that are chosen, (B, L) bool.

    Args:
        angles: of the places in a row, (L, 1, d).
        bound: how many there are at most; None: they are counted.

    Raises:
        RuntimeError: there are more than that (on a GPU at the next synchronisation).
    """
    flat, length = chosen.flatten(), chosen.shape[1]
    if bound is None:
        where = found = flat.nonzero().squeeze(1)
    else:
        torch._assert_async(flat.sum() <= bound, f"more positions than {bound}")
        found = flat.byte().argsort(descending=True, stable=True)[:bound]
        where = torch.where(flat[found], found, len(flat))
    return Packed(where, (angles[0][found % length], angles[1][found % length]))


def run_visible(
    blocks: Sequence[Block],
    embedded: Tensor,
    visible: Tensor,
    angles: Angles,
    bounds: Bounds | None,
    run: Run,
) -> Tensor:
    """Run the first blocks, on the visible tokens alone.

    Args:
        embedded: (B, L, D) embeddings.
        visible: (B, L) bool, in no row none.
        angles: of the places in a row, (L, 1, d).
        bounds: what there is at most; None: it is counted.
        run: how a block is run.

    Returns:
        (B, L, D), zero where nothing is visible.

    Raises:
        RuntimeError: there is more than the bounds say (on a GPU at the next synchronisation).
    """
    rows, length = visible.shape
    counts = visible.sum(dim=1)
    if bounds is None:
        within = int(counts.max())
    else:
        within = min(bounds.in_row, length)
        torch._assert_async((counts <= within).all(), f"more visible tokens in a row than {within}")
    tokens = pack(visible, angles, bounds and bounds.visible)
    # the place of each among the visible ones of its row
    number = torch.cat((visible.cumsum(dim=1).flatten() - 1, counts.new_zeros(1)))
    slot = tokens.where // length * within + number[tokens.where]
    present = torch.arange(within, device=counts.device) < counts[:, None]

    def block_on_packed(block: Block, hidden: Tensor) -> Tensor:
        part, normed = block.attention, block.attention_norm(hidden)
        heads = (part.queries(normed, tokens.angles), *part.keys(normed, tokens.angles))
        spread = (put(x, slot, rows * within).unflatten(0, (rows, -1)) for x in heads)
        mixed = attend(*spread, present[:, None, None, :], causal=False)
        hidden = hidden + part.o(take(mixed.flatten(0, 1).flatten(1), slot))
        return hidden + block.mlp(block.mlp_norm(hidden))  # type: ignore[no-any-return]

    hidden = take(embedded.flatten(0, 1), tokens.where)
    for block in blocks:
        hidden = run(block_on_packed, block, hidden)
    return put(hidden, tokens.where, rows * length).unflatten(0, (rows, -1))


def run_last(
    block: Block,
    hidden: Tensor,
    read: Packed,
    angles: Angles,
    mask: Tensor | None,
) -> Tensor:
    """Run the last block, of which some positions' states are read.

    Args:
        hidden: (B, L, D), the residual stream.
        read: N positions.
        angles: of the places in a row, (L, 1, d).
        mask: (B, 1, 1, L) bool, keys to attend to; None: all.

    Returns:
        (N, D).
    """
    part, normed = block.attention, block.attention_norm(hidden)
    query = part.queries(take(normed.flatten(0, 1), read.where), read.angles)
    spread = put(query, read.where, normed.shape[:2].numel()).unflatten(0, normed.shape[:2])
    mixed = attend(spread, *part.keys(normed, angles), mask, causal=False)
    hidden = take(hidden.flatten(0, 1), read.where)
    hidden = hidden + part.o(take(mixed.flatten(0, 1).flatten(1), read.where))
    return hidden + block.mlp(block.mlp_norm(hidden))  # type: ignore[no-any-return]


def put(x: Tensor, slot: Tensor, slots: int) -> Tensor:
    """Rows (N, ...) at their slots of (slots, ...), no two at one; zero where none is.

    Those at the slot ``slots`` go nowhere. The gradient takes each from its slot.
    """
    return _Put.apply(x, slot, slots)  # type: ignore[no-untyped-call,no-any-return]


def take(x: Tensor, slot: Tensor) -> Tensor:
    """Rows (N, ...) from their slots of x (slots, ...): the inverse of `put`.

    What comes from the slot ``slots`` is meaningless. The gradient puts each row at its slot.
    torch's own adds rows up, one by one on a CPU, though here none is taken twice.
    """
    return _Take.apply(x, slot)  # type: ignore[no-untyped-call,no-any-return]


class _Put(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slot: Tensor, slots: int) -> Tensor:
        ctx.save_for_backward(slot)
        return _at(x, slot, slots)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (slot,) = ctx.saved_tensors
        return _from(gradient, slot), None, None


class _Take(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slot: Tensor) -> Tensor:
        ctx.save_for_backward(slot)
        ctx.slots = len(x)
        return _from(x, slot)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (slot,) = ctx.saved_tensors
        return _at(gradient, slot, ctx.slots), None


def _at(x: Tensor, slot: Tensor, slots: int) -> Tensor:
    return x.new_zeros(slots + 1, *x.shape[1:]).index_copy_(0, slot, x)[:-1]


def _from(x: Tensor, slot: Tensor) -> Tensor:
    nowhere = (slot == len(x)).view(-1, *[1] * (x.ndim - 1))
    return x.index_select(0, slot.clamp(max=len(x) - 1)).masked_fill_(nowhere, 0)
