"""Masked positions that come in late: a bidirectional pass that costs little for what is hidden.

A mask token says nothing about itself, so the first blocks are run on the visible tokens alone. In
the last blocks a masked position takes part as any other, if a token is predicted there: a token is
predicted at the position before it. In the very last one only those positions are advanced whose
states are read; the others are keys.

The tokens that pass a block stand packed in one matrix, (N, D), whatever row they are from; for
attention they are spread over (B, K), K being what a row has at most; on a CPU in groups of rows of
like lengths, each with a K of its own. On an accelerator bounds make N and K constants: what is too
much in a matrix then is some other position, which goes nowhere.
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

GROUPS = 4
"""On a CPU, rows of like lengths attend together: this many groups of them."""


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
class Rows:
    """The rows of a batch, in groups that attend together.

    Attributes:
        order: (B,) int64, the rows, one group after the other.
        sizes: rows in each group.
    """

    order: Tensor
    sizes: list[int]

    @staticmethod
    def alike(counts: Tensor) -> "Rows":
        """Groups of rows with like counts (B,), so that little is spread over nothing."""
        order = counts.argsort()
        return Rows(order, [len(part) for part in order.tensor_split(min(GROUPS, len(order)))])

    @staticmethod
    def together(n: int, device: torch.device) -> "Rows":
        """One group, in order."""
        return Rows(torch.arange(n, device=device), [n])


@dataclass(frozen=True)
class Packed:
    """Some positions of a batch, packed, and where they stand in attention.

    Attributes:
        where: (N,) int64, their flat positions in (B, L).
        slot: (N,) int64, their places in the spread of all groups, one after the other.
        shapes: (rows, places in each) of the groups.
        present: (rows, 1, 1, places) bool of each group: where a position is.
        angles: of each.
        full: whether all N are; else some are too much, whose ``where`` and ``slot`` are the
            counts of all.
    """

    where: Tensor
    slot: Tensor
    shapes: list[tuple[int, int]]
    present: list[Tensor]
    angles: Angles
    full: bool

    def spread(self, x: Tensor) -> list[Tensor]:
        """(N, ...) -> (rows, places, ...) of each group."""
        sizes = [rows * places for rows, places in self.shapes]
        groups = put(x, self.slot, sum(sizes), self.full).split(sizes)
        return [group.unflatten(0, shape) for group, shape in zip(groups, self.shapes, strict=True)]

    def collect(self, groups: list[Tensor]) -> Tensor:
        """The inverse."""
        return take(torch.cat([group.flatten(0, 1) for group in groups]), self.slot, self.full)


def pack(chosen: Tensor, rows: Rows, angles: Angles, bound: tuple[int, int] | None) -> Packed:
    """Pack the positions that are chosen, (B, L) bool.

    Args:
        rows: the groups of the batch.
        angles: of the places in a row, (L, 1, d).
        bound: how many there are at most, in all and in a row; None: they are counted.

    Raises:
        RuntimeError: there are more than that (on a GPU at the next synchronisation).
    """
    flat, counts, length = chosen.flatten(), chosen.sum(dim=1), chosen.shape[1]
    groups = rows.order.split(rows.sizes)
    if bound is None:
        where = flat.nonzero().squeeze(1)
        most = [int(counts[group].max()) for group in groups]
    else:
        total, in_row = bound
        torch._assert_async(flat.sum() <= total, f"more positions than {total}")
        torch._assert_async((counts <= in_row).all(), f"more positions in a row than {in_row}")
        where = flat.byte().argsort(descending=True, stable=True)[:total]
        most = [min(in_row, length)] * len(groups)
    # Rows stand in the spread one group after the other; in a row its positions, in order.
    slots, starts, present = 0, [], []
    for group, places in zip(groups, most, strict=True):
        starts.append(slots + places * torch.arange(len(group), device=group.device))
        here = torch.arange(places, device=group.device) < counts[group][:, None]
        present.append(here[:, None, None, :])
        slots += places * len(group)
    start = torch.empty_like(counts).index_copy_(0, rows.order, torch.cat(starts))
    slot = (start[:, None] + chosen.cumsum(dim=1) - 1).flatten()[where]
    found = angles[0][where % length], angles[1][where % length]
    if bound is not None:
        real = flat[where]
        where, slot = torch.where(real, where, len(flat)), torch.where(real, slot, slots)
    shapes = list(zip(rows.sizes, most, strict=True))
    return Packed(where, slot, shapes, present, found, bound is None)


def run_late(
    first: Sequence[Block],
    last: Sequence[Block],
    embedded: Tensor,
    *,
    visible: Tensor,
    late: Tensor,
    read: Tensor,
    angles: Angles,
    bounds: Bounds | None,
    run: Run,
) -> tuple[Tensor, Packed]:
    """The states of some positions after all blocks.

    Args:
        first: blocks that visible tokens alone pass.
        last: the other blocks, one at least.
        embedded: (B, L, D) embeddings.
        visible: (B, L) bool, in no row none.
        late: (B, L) bool, the positions that pass the last blocks, visible ones among them.
        read: (B, L) bool, the positions whose states are asked for, among those.
        angles: of the places in a row, (L, 1, d).
        bounds: what there is at most; None: it is counted.
        run: how a block is run.

    Returns:
        (N, D), and the N positions.

    Raises:
        RuntimeError: there is more than the bounds say (on a GPU at the next synchronisation).
    """
    n, length = visible.shape
    in_groups = bounds is None and visible.device.type == "cpu"
    rows = Rows.alike(visible.sum(dim=1)) if in_groups else Rows.together(n, visible.device)
    most: dict[str, tuple[int, int]] = {}
    if bounds is not None:
        most["visible"] = bounds.visible, bounds.in_row
        most["late"] = bounds.visible + bounds.predicted, length
        most["read"] = bounds.predicted, length
    everyone = pack(late, rows, angles, most.get("late"))
    hidden = take(embedded.flatten(0, 1), everyone.where, everyone.full)
    if first:
        seen = pack(visible, rows, angles, most.get("visible"))
        place = _places(seen, everyone, n * length)
        states = take(hidden, place, seen.full)
        for block in first:
            states = run(block.lend, _advance, states, seen, seen, None)
        states = put(states, place, len(hidden), seen.full)
        shown = torch.cat((visible.flatten(), visible.new_zeros(1)))[everyone.where]
        hidden = torch.where(shown[:, None], states, hidden)
    for block in last[:-1]:
        hidden = run(block.lend, _advance, hidden, everyone, everyone, None)
    asked = pack(read, rows, angles, most.get("read"))
    place = _places(asked, everyone, n * length)
    return run(last[-1].lend, _advance, hidden, everyone, asked, place), asked


def _advance(
    block: Block, hidden: Tensor, keys: Packed, queries: Packed, chosen: Tensor | None
) -> Tensor:
    """Advance the streams of some positions.

    Args:
        hidden: (N, D), those of all that are keys.
        queries: the M positions that are advanced.
        chosen: (M,) int64, which of the N they are; None: all.

    Returns:
        (M, D).
    """
    part, normed = block.attention, block.attention_norm(hidden)
    key, value = (keys.spread(x) for x in part.keys(normed, keys.angles))
    if chosen is not None:
        hidden, normed = (take(x, chosen, queries.full) for x in (hidden, normed))
    query = queries.spread(part.queries(normed, queries.angles))
    groups = zip(query, key, value, keys.present, strict=True)
    mixed = queries.collect([attend(*group, causal=False) for group in groups])
    hidden = hidden + part.o(mixed.flatten(1))
    return hidden + block.mlp(block.mlp_norm(hidden))  # type: ignore[no-any-return]


def _places(some: Packed, others: Packed, positions: int) -> Tensor:
    """The places of some positions in the matrix of others, (N,) int64; its length for no place."""
    n = len(others.where)
    place = others.where.new_full((positions + 1,), n)
    place.index_copy_(0, others.where, torch.arange(n, device=place.device))
    place[-1] = n
    return place[some.where]


def put(x: Tensor, slot: Tensor, slots: int, full: bool) -> Tensor:
    """Rows (N, ...) at their slots of (slots, ...), no two at one; zero where none is.

    Those at the slot ``slots`` go nowhere; if ``full``, there are none. The gradient takes each
    from its slot.
    """
    return _Put.apply(x, slot, slots, full)  # type: ignore[no-untyped-call,no-any-return]


def take(x: Tensor, slot: Tensor, full: bool) -> Tensor:
    """Rows (N, ...) from their slots of x (slots, ...): the inverse of `put`.

    From the slot ``slots`` comes 0. The gradient puts each row at its slot: torch's own adds rows
    up, one by one on a CPU, though here none is taken twice.
    """
    return _Take.apply(x, slot, full)  # type: ignore[no-untyped-call,no-any-return]


class _Put(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slot: Tensor, slots: int, full: bool) -> Tensor:
        ctx.save_for_backward(slot)
        ctx.full = full
        return _at(x, slot, slots)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (slot,) = ctx.saved_tensors
        return _from(gradient, slot, ctx.full), None, None, None


class _Take(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slot: Tensor, full: bool) -> Tensor:
        ctx.save_for_backward(slot)
        ctx.slots = len(x)
        return _from(x, slot, full)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (slot,) = ctx.saved_tensors
        return _at(gradient, slot, ctx.slots), None, None


def _at(x: Tensor, slot: Tensor, slots: int) -> Tensor:
    return x.new_zeros(slots + 1, *x.shape[1:]).index_copy_(0, slot, x)[:-1]


def _from(x: Tensor, slot: Tensor, full: bool) -> Tensor:
    if full:
        return x.index_select(0, slot)
    nowhere = (slot == len(x)).view(-1, *[1] * (x.ndim - 1))
    return x.index_select(0, slot.clamp(max=len(x) - 1)).masked_fill_(nowhere, 0)
