"""Masked positions that come in late: the packed pass against a slow one of all positions."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.model.config import ModelConfig
from unmask.model.late import Bounds
from unmask.model.layers import Block, rotate
from unmask.model.transformer import Transformer

MASK, START, V, L = 20, 21, 22, 12
LAYERS = 4
FORMS = pytest.mark.parametrize("start", [None, START])


def network(late: int, start: int | None = None, seed: int = 0, **options: Any) -> Transformer:
    config = ModelConfig(layers=LAYERS, width=16, heads=2, late=late)
    model = Transformer(config, V, [MASK, START], mask_id=MASK, start=start, seed=seed, **options)
    torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(1))
    return model.double()


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Tokens, of which in each row another share is masked, and which are no padding."""
    generator = torch.Generator().manual_seed(seed)
    share = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0])[:, None]
    x = torch.randint(MASK, (5, L), generator=generator)
    x = x.masked_fill(torch.rand(5, L, generator=generator) < share, MASK)
    return x, torch.arange(L) < torch.tensor([12, 5, 12, 9, 7])[:, None]


def attention(block: Block, x: Tensor, angles: tuple[Tensor, Tensor], sees: Tensor) -> Tensor:
    """Softmax attention written out; sees (B, L, L)."""
    part = block.attention
    shape = (*x.shape[:2], part.heads, -1)
    query = rotate(part.q_norm(part.q(x).view(shape)), *angles)
    key = rotate(part.k_norm(part.k(x).view(shape)), *angles)
    scores = torch.einsum("bqhd,bkhd->bhqk", query, key) / query.shape[-1] ** 0.5
    weights = scores.masked_fill(~sees[:, None], -torch.inf).softmax(dim=-1)
    return part.o(torch.einsum("bhqk,bkhd->bqhd", weights, part.v(x).view(shape)).flatten(2))


def slow(model: Transformer, x: Tensor, valid: Tensor | None = None) -> Tensor:
    """Every position passes every block; masked ones are hidden as keys, and frozen at first."""
    masked = F.pad(x == MASK, (1, 0), value=False)
    valid = torch.ones_like(x, dtype=torch.bool) if valid is None else valid
    seen = ~masked & F.pad(valid, (1, 0), value=True)
    x = F.pad(x, (1, 0), value=MASK if model.start is None else model.start)
    hidden = model.embedding(x)
    sees = seen[:, None, :].expand(-1, x.shape[1], -1)
    for number, block in enumerate(model.blocks):
        new = hidden + attention(
            block, block.attention_norm(hidden), model.rotary(x.shape[1]), sees
        )
        new = new + block.mlp(block.mlp_norm(new))
        frozen = masked & (number < LAYERS - model.config.late)
        hidden = torch.where(frozen[..., None], hidden, new)
    hidden = model.norm(hidden)
    return hidden[:, 1:] if model.start is None else hidden[:, :-1]


def gradients(model: Transformer) -> list[Tensor]:
    found = [p.grad for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    return found


@FORMS
@pytest.mark.parametrize("late", [1, 2, 3, 4])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("bounded", [False, True])
def test_the_packed_pass_is_the_slow_one(
    late: int, start: int | None, padded: bool, bounded: bool
) -> None:
    """States and gradients, in float64, whatever is masked."""
    model = network(late, start)
    x, valid = batch()
    predicted = (x == MASK) & valid if padded else x == MASK
    bounds = Bounds(40, 55, L) if bounded else None  # more than there is
    weights = torch.randn(*x.shape, 16, generator=torch.Generator().manual_seed(2)).double()
    weights *= predicted[..., None]
    ours = model(x, valid if padded else None, bounds=bounds)
    (ours * weights).sum().backward()
    found = gradients(model)
    theirs = slow(model, x, valid if padded else None)
    (theirs * weights).sum().backward()
    torch.testing.assert_close(ours[predicted], theirs[predicted], rtol=1e-9, atol=1e-9)
    expected = gradients(model)
    assert len(found) == len(expected) == len(list(model.parameters())) - 1  # all but the head's
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@FORMS
def test_states_that_are_not_asked_for_change_nothing(start: int | None) -> None:
    model = network(2, start)
    x, valid = batch()
    asked = (x == MASK) & valid & (torch.arange(L) % 3 == 0)
    torch.testing.assert_close(
        model(x, valid, predicted=asked)[asked], model(x, valid)[asked], rtol=1e-12, atol=1e-12
    )
