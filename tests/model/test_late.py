"""Masked positions that come in late: the packed pass against a slow one of all positions."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.model.config import ModelConfig
from unmask.model.late import Bounds, put, run_late
from unmask.model.layers import Block, rotate
from unmask.model.transformer import Transformer

MASK, START, V, L = 20, 21, 22, 12
LAYERS = 4


def network(late: int, seed: int = 0, **options: Any) -> Transformer:
    config = ModelConfig(layers=LAYERS, width=16, heads=2, late=late)
    model = Transformer(config, V, [MASK, START], mask_id=MASK, start=START, seed=seed, **options)
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
    """Every position passes every block; some are hidden as keys, the masked at first frozen."""
    masked = F.pad(x == MASK, (1, 0), value=False)
    valid = torch.ones_like(x, dtype=torch.bool) if valid is None else valid
    valid = F.pad(valid, (1, 0), value=True)
    hidden = model.embedding(F.pad(x, (1, 0), value=START))
    predicting = F.pad((x == MASK) & valid[:, 1:], (0, 1), value=False)
    for number, block in enumerate(model.blocks):
        early = number < LAYERS - model.config.late
        seen = valid & (~masked if early else ~masked | predicting)
        sees = seen[:, None, :].expand(-1, seen.shape[1], -1)
        normed = block.attention_norm(hidden)
        new = hidden + attention(block, normed, model.rotary(seen.shape[1]), sees)
        new = new + block.mlp(block.mlp_norm(new))
        hidden = torch.where((masked & early)[..., None], hidden, new)
    return model.norm(hidden)[:, :-1]


def gradients(model: Transformer) -> list[Tensor]:
    found = [p.grad for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    return found


@pytest.mark.parametrize("late", [1, 2, 3, 4])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("bounded", [False, True])
def test_the_packed_pass_is_the_slow_one(late: int, padded: bool, bounded: bool) -> None:
    """States and gradients, in float64, whatever is masked."""
    model = network(late)
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


def test_states_that_are_not_asked_for_change_nothing() -> None:
    model = network(2)
    x, valid = batch()
    asked = (x == MASK) & valid & (torch.arange(L) % 3 == 0)
    torch.testing.assert_close(
        model(x, valid, predicted=asked)[asked], model(x, valid)[asked], rtol=1e-12, atol=1e-12
    )


def test_a_mask_token_is_nothing_to_the_first_blocks() -> None:
    """Nor to any block where nothing is predicted; every visible token is something to all."""
    model = network(2)
    x, valid = batch()
    visible, predicting = (x != MASK) & valid, (x == MASK) & valid
    visible = F.pad(visible, (1, 0), value=True)
    predicting = F.pad(predicting, (0, 1), value=False)
    blocks: Any = model.blocks

    def states(embedded: Tensor, read: Tensor, last: int) -> Tensor:
        late = visible | (predicting if last > 1 else read)
        at = {"visible": visible, "late": late, "read": read}
        found, place = run_late(
            blocks[: 2 - last], blocks[2 - last :], embedded, **at, angles=model.rotary(L + 1),
            bounds=None, run=lambda f, *xs: f(*xs),
        )  # fmt: skip
        return put(found, place.where, visible.numel(), place.full).unflatten(0, visible.shape)

    embedded = model.embedding(F.pad(x, (1, 0), value=START)).detach()
    noise = torch.randn(embedded.shape, generator=torch.Generator().manual_seed(0)).double()
    for last, read, silent in ((1, visible, ~visible), (2, predicting, ~visible & ~predicting)):
        found = states(embedded, read, last)
        assert torch.equal(states(embedded + noise * silent[..., None], read, last), found)
        for row, place in (~silent).nonzero().tolist():
            other = embedded.clone()
            other[row, place] += noise[row, place]
            changed = (states(other, read, last) - found).abs().amax(dim=-1) > 1e-7
            assert changed[row][read[row]].all()
            assert not changed[torch.arange(len(x)) != row].any()


def test_padding_tells_nobody_anything() -> None:
    model = network(2)
    x, valid = batch()
    predicted = (x == MASK) & valid
    other = x.where(valid, (x + 1) % MASK)
    torch.testing.assert_close(model(other, valid)[predicted], model(x, valid)[predicted])
    alone = model(x[1:2, :5])[x[1:2, :5] == MASK]  # the row of five tokens
    torch.testing.assert_close(model(x, valid)[1][predicted[1]], alone)


def test_a_place_is_a_true_one() -> None:
    """Attention turns by distance: tokens that stay, moved apart, give other states."""
    model = network(2)
    near, far = torch.full((2, 1, L), MASK)
    near[0, 3], far[0, 5] = 1, 1
    assert not torch.allclose(model(near)[0, 4], model(far)[0, 4])
    # all masked: the start symbol alone is seen, from each place in its way
    states = model(torch.full((1, L), MASK))[0]
    assert states.isfinite().all()


def test_the_autoregressive_pass_is_that_of_the_plain_network() -> None:
    late, plain = (network(n, seed=3) for n in (2, 0))
    x, _ = batch()
    assert torch.equal(late(x, causal=True), plain(x, causal=True))
    twin = network(2, seed=3, causal=True)
    assert torch.equal(twin(x), plain(x, causal=True))


def test_more_late_blocks_than_there_are_are_all() -> None:
    x, valid = batch()
    assert torch.equal(network(LAYERS + 3)(x, valid), network(LAYERS)(x, valid))


def test_more_than_the_bounds_is_refused() -> None:
    x, _ = batch()
    masked = int((x == MASK).sum())
    counts = Bounds(masked, x.numel() - masked, L)
    network(2)(x, bounds=counts)
    for part in counts._fields:
        with pytest.raises(RuntimeError, match="more "):
            network(2)(x, bounds=counts._replace(**{part: getattr(counts, part) - 1}))


def test_it_has_to_know_its_tokens() -> None:
    for known in ({"mask_id": MASK}, {"start": START}):
        with pytest.raises(ValueError, match="a start symbol and the mask token"):
            Transformer(ModelConfig(late=1), V, **known)


def test_recomputing_keeps_less_and_changes_no_gradient() -> None:
    x, valid = batch()
    found = []
    for recompute in (False, True):
        model = network(2)
        model.recompute = recompute
        kept = {}

        def pack(tensor: Tensor, kept: dict[int, int] = kept) -> Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = model(x, valid).square().sum()
        loss.backward()
        found.append((sum(kept.values()), gradients(model)))
    assert found[1][0] < 0.7 * found[0][0]
    for ours, theirs in zip(found[0][1], found[1][1], strict=True):
        assert torch.equal(ours, theirs)


def test_bfloat16_autocast_is_close() -> None:
    x, valid = batch()
    predicted = (x == MASK) & valid
    model, errors = network(2).float(), []
    for run in (slow, Transformer.__call__):
        exact = run(model, x, valid)[predicted]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            states = run(model, x, valid)[predicted]
        errors.append(float((states - exact).detach().square().mean().sqrt()))
        states.sum().backward()
        assert all(g.isfinite().all() for g in gradients(model))
    assert states.dtype == torch.float32  # the residual stream stays exact
    assert 0 < errors[1] < 2 * errors[0]


@pytest.mark.slow
@pytest.mark.parametrize("bounded", [False, True])
def test_compiled_is_the_same(bounded: bool) -> None:
    torch.compiler.reset()  # graphs of earlier tests count towards the recompilation limit
    model = network(2)
    compiled = torch.compile(model)
    for seed in range(3):
        x, valid = batch(seed)
        bounds = Bounds(50, 55, L) if bounded else None
        found = []
        for run in (model, compiled):
            states = run(x, valid, bounds=bounds)
            states.square().sum().backward()
            found.append((states.detach(), gradients(model)))
        (states, ours), (expected, theirs) = found
        torch.testing.assert_close(states, expected, rtol=1e-9, atol=1e-9)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
