"""Masked positions that come in late: a bidirectional pass that costs what it predicts.

A mask token tells no other position anything. So the first blocks are run on the visible tokens
alone. In the last blocks the masked positions are queries that look at the visible tokens, and no
position looks at them. In the very last block only those positions are computed whose states are
read; of the others it needs the keys and values.

Tokens that take part stand packed in one matrix, (N, D), whatever row they are from; for attention
they are spread over (B, K), K being what a row has at most. On an accelerator bounds make N and K
constants: what is too much in a matrix then is some other position, which goes nowhere.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from unmask.model.layers import Block, attend

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
        slot: (N,) int64, the place of each when they are spread; ``rows * length`` of what is too
            much in the matrix.
        rows: B.
        length: K.
        angles: cos and sin of each, (N, 1, d).
    """

    slot: Tensor
    rows: int
    length: int
    angles: tuple[Tensor, Tensor]

    def spread(self, x: Tensor) -> Tensor:
        """(N, ...) -> (B, K, ...), zero where no token is."""
        spread: Tensor = _Spread.apply(x, self.slot, self.rows * self.length)  # type: ignore[no-untyped-call]
        return spread.view(self.rows, self.length, *x.shape[1:])

    def collect(self, x: Tensor) -> Tensor:
        """(B, K, ...) -> (N, ...), the inverse."""
        return take(x.flatten(0, 1), self.slot)


@dataclass(frozen=True)
class Layout:
    """Which positions pass which block.

    Attributes:
        visible: the visible tokens, which alone are keys; spread side by side.
        present: (B, 1, 1, K) bool, where one is in that spread.
        both: they, and after them the masked positions that take part; spread at their own places.
        read: those whose states are read; spread at their own places.
        rows: (R,) int64, which of ``both`` the latter are.
        tokens: (N,) flat positions of ``both``.
    """

    visible: Packed
    present: Tensor
    both: Packed
    read: Packed
    rows: Tensor
    tokens: Tensor


def lay_out(
    masked: Tensor,
    read: Tensor,
    valid: Tensor | None,
    angles: tuple[Tensor, Tensor],
    bounds: Bounds | None,
) -> Layout:
    """Lay out a batch.

    Args:
        masked: (B, L) bool, positions that hold the mask token; in no row all of them.
        read: (B, L) bool, whose states are read, visible ones or masked.
        valid: (B, L) bool, False at padding; None: none.
        angles: cos and sin of all places, (L, 1, d).
        bounds: what there is at most; None: it is counted.

    Raises:
        RuntimeError: there is more than the bounds say (on a GPU at the next synchronisation).
    """
    visible = ~masked if valid is None else ~masked & valid
    n_rows, length = masked.shape
    counts = visible.sum(dim=1)
    within = int(counts.max()) if bounds is None else min(bounds.in_row, length)
    if bounds is not None:
        torch._assert_async((counts <= within).all(), f"more visible tokens in a row than {within}")
    seen, seen_real = _positions(visible, bounds and bounds.visible)
    late, late_real = _positions(masked & read, bounds and bounds.predicted)
    asked, asked_real = _positions(read, bounds and bounds.predicted)
    tokens, real = torch.cat((seen, late)), torch.cat((seen_real, late_real))

    def packed(where: Tensor, real: Tensor, slot: Tensor, length: int) -> Packed:
        place = where % masked.shape[1]
        slot = torch.where(real, slot, n_rows * length)
        return Packed(slot, n_rows, length, (angles[0][place], angles[1][place]))

    number = (visible.cumsum(dim=1) - 1).flatten()[seen]
    both = packed(tokens, real, tokens, length)
    index = tokens.new_zeros(n_rows * length + 1)
    index[both.slot] = torch.arange(len(tokens), device=tokens.device)
    return Layout(
        packed(seen, seen_real, seen // length * within + number, within),
        (torch.arange(within, device=counts.device) < counts[:, None])[:, None, None, :],
        both,
        packed(asked, asked_real, asked, length),
        torch.where(asked_real, index[asked], len(tokens)),
        tokens,
    )


def run_late(
    blocks: Sequence[Block], hidden: Tensor, layout: Layout, late: int, norm: nn.Module, run: Run
) -> Tensor:
    """The states of the positions that are read.

    Args:
        blocks: the network's.
        hidden: (N, D) embeddings of ``layout.tokens``.
        late: how many last blocks masked positions take part in, at least 1.
        norm: the final one.
        run: how a block is run.

    Returns:
        (B, L, D), zero at all other positions.
    """
    n_visible = len(layout.visible.slot)
    first = len(blocks) - late
    masked, hidden = hidden[n_visible:], hidden[:n_visible]
    for block in blocks[:first]:
        hidden = run(_advance, block, hidden, None, layout.visible, layout)
    hidden = torch.cat((hidden, masked.to(hidden.dtype)))
    for block in blocks[first:-1]:
        hidden = run(_advance, block, hidden, None, layout.both, layout)
    hidden = run(_advance, blocks[-1], hidden, layout.rows, layout.read, layout)
    return layout.read.spread(norm(hidden))


def _advance(
    block: Block, hidden: Tensor, rows: Tensor | None, asked: Packed, layout: Layout
) -> Tensor:
    """Advance the packed streams ``hidden`` (N, D) of those at ``rows`` (M,); None: of all."""
    attention, normed = block.attention, block.attention_norm(hidden)
    keys, values = attention.keys(normed[: len(layout.visible.slot)], layout.visible.angles)
    if rows is not None:
        hidden, normed = take(hidden, rows), take(normed, rows)
    mixed = attend(
        asked.spread(attention.queries(normed, asked.angles)),
        layout.visible.spread(keys),
        layout.visible.spread(values),
        layout.present,
        causal=False,
    )
    hidden = hidden + attention.o(asked.collect(mixed).flatten(1))
    return hidden + block.mlp(block.mlp_norm(hidden))  # type: ignore[no-any-return]


def _positions(flags: Tensor, bound: int | None) -> tuple[Tensor, Tensor]:
    """Flat positions (N,) of the true flags (B, L), in order, and which of the N are such."""
    flat = flags.flatten()
    if bound is None:
        where = flat.nonzero().squeeze(1)
        return where, torch.ones_like(where, dtype=torch.bool)
    torch._assert_async(flat.sum() <= bound, f"more positions than {bound}")
    where = flat.byte().argsort(descending=True, stable=True)[:bound]
    return where, flat[where]


def take(x: Tensor, rows: Tensor) -> Tensor:
    """Rows of x, no row twice; any for the index ``len(x)``, which gets no gradient."""
    return _Collect.apply(x, rows)  # type: ignore[no-untyped-call,no-any-return]


class _Spread(torch.autograd.Function):
    """Rows to their slots, the others zero.

    Its gradient takes them from there. torch's own gradient of taking rows adds them up, row by
    row on a CPU, though here no row is taken twice.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, slot: Tensor, slots: int) -> Tensor:
        ctx.save_for_backward(slot)
        return _put(x, slot, slots)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (slot,) = ctx.saved_tensors
        return _get(gradient, slot), None, None


class _Collect(torch.autograd.Function):
    """Rows from their slots: the inverse of `_Spread`, whose gradient it is."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slot: Tensor) -> Tensor:
        ctx.save_for_backward(slot)
        ctx.slots = len(x)
        return _get(x, slot)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (slot,) = ctx.saved_tensors
        return _put(gradient, slot, ctx.slots), None


def _put(x: Tensor, slot: Tensor, slots: int) -> Tensor:
    # one more slot, for what is too much
    return x.new_zeros(slots + 1, *x.shape[1:]).index_copy_(0, slot, x)[:-1]


def _get(x: Tensor, slot: Tensor) -> Tensor:
    found = x.index_select(0, slot.clamp(max=len(x) - 1))
    return found.masked_fill_((slot == len(x)).view(-1, *[1] * (x.ndim - 1)), 0)
