"""Two passes: the second is given the states of the first, and both see the same tokens."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from unmask.model.config import ModelConfig
from unmask.model.flops import training_flops
from unmask.model.transformer import Transformer

MASK, START, V, L = 20, 21, 22, 12


def network(on: bool = True, drawn: bool = True, **options: Any) -> Transformer:
    config = ModelConfig(layers=2, width=16, heads=2, self_conditioning=on)
    model = Transformer(config, V, [MASK, START], mask_id=MASK, **options)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        model.head.weight.normal_(generator=generator)
        if drawn and model.state_norm is not None:
            model.state_norm.weight.normal_(generator=generator)
    return model


def batch() -> tuple[Tensor, Tensor]:
    """Tokens, of which some are masked, and which are no padding."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(MASK, (3, L), generator=generator)
    x = x.masked_fill(torch.rand(3, L, generator=generator) < 0.4, MASK)
    return x, torch.arange(L) < torch.tensor([L, 5, 9])[:, None]


def one_pass(model: Transformer, hidden: Tensor, valid: Tensor | None, causal: bool) -> Tensor:
    mask = None if valid is None else valid[:, None, None, :]
    for block in model.blocks:
        hidden = block(hidden, model.rotary(hidden.shape[1]), mask, causal)
    return hidden


def by_hand(
    model: Transformer, x: Tensor, valid: Tensor | None, causal: bool, detached: bool = True
) -> Tensor:
    """Two passes written out, behind a start symbol where the network has one."""
    if model.start is not None:
        x = F.pad(x, (1, 0), value=model.start)
        valid = None if valid is None else F.pad(valid, (1, 0), value=True)
    embedded = model.embedding(x)
    states = one_pass(model, embedded, valid, causal)
    states = states.detach() if detached else states
    rms = (states.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt()
    second = embedded + model.state_norm.weight * states / rms
    hidden = model.norm(one_pass(model, second, valid, causal))
    return hidden if model.start is None else hidden[:, :-1]


@pytest.mark.parametrize(("start", "causal"), [(None, False), (START, False), (START, True)])
@pytest.mark.parametrize("padded", [False, True])
def test_the_second_pass_is_given_the_first_one_s_states(
    start: int | None, causal: bool, padded: bool
) -> None:
    """States and gradients, in float64: none goes through the first pass."""
    model = network(start=start).double()
    x, valid = batch()
    seen = valid if padded and not causal else None
    read = valid if padded else torch.ones_like(valid)
    found, expected = model(x, seen, causal), by_hand(model, x, seen, causal)
    torch.testing.assert_close(found[read], expected[read])
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(2)).double()
    gradients = []
    for hidden in (found, expected, by_hand(model, x, seen, causal, detached=False)):
        (weights * hidden)[read].sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        model.zero_grad()
    torch.testing.assert_close(gradients[0], gradients[1])
    assert not torch.allclose(gradients[0][0], gradients[2][0])


def test_without_it_nothing_is_there() -> None:
    plain = network(on=False)
    assert not plain.self_conditioning
    assert set(network().state_dict()) - set(plain.state_dict()) == {"state_norm.weight"}
    x, _ = batch()
    assert torch.equal(plain(x), plain.norm(one_pass(plain, plain.embedding(x), None, False)))
    assert torch.equal(plain(x), plain(x, conditioned=False))


def test_it_starts_as_the_network_without() -> None:
    model, plain = network(drawn=False), network(on=False)
    x, _ = batch()
    assert torch.equal(model(x), plain(x))
    model(x).square().mul(torch.arange(16)).sum().backward()
    assert model.state_norm.weight.grad.abs().min() > 0


def test_zeros_stand_in_for_the_states_of_a_pass_that_is_not_made() -> None:
    model, plain = network(), network(on=False)
    x, _ = batch()
    plain.load_state_dict(model.state_dict(), strict=False)
    passed = []
    model.blocks[0].register_forward_hook(lambda *_: passed.append(torch.is_grad_enabled()))
    hidden = model(x, conditioned=False)
    assert torch.equal(hidden, plain(x))
    hidden.sum().backward()
    assert not model.state_norm.weight.grad.any()  # but there is one
    assert passed == [True]
    assert not torch.allclose(model(x), hidden)
    assert passed == [True, False, True]


@pytest.mark.parametrize("recompute", [False, True])
def test_in_low_precision_the_first_pass_takes_no_gradient_away(recompute: bool) -> None:
    """Weights that autocast has converted without gradient are not those of the second pass."""
    x, _ = batch()
    gradients = []
    for low in (False, True):
        model = network()
        model.recompute = recompute
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            model.head(model(x))[..., :MASK].logsumexp(-1).sum().backward()
        gradients.append(model.blocks[0].mlp.up.weight.grad)
    assert F.cosine_similarity(*(g.flatten() for g in gradients), dim=0) > 0.98


@pytest.mark.parametrize("causal", [False, True])
def test_the_first_pass_costs_the_blocks_operations_once_more(causal: bool) -> None:
    model = network(start=START)
    x, _ = batch()
    counts = []
    for conditioned in (False, True):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(x, causal=causal, conditioned=conditioned)
        counts.append(counter.get_total_flops())
    length = L + (not causal)
    made = counts[1] - counts[0] + 2 * 4 * 3 * length**2 * 16  # attention, which torch leaves out
    rates = torch.full((3,), 0.5)
    options: Any = {"causal": causal, "start": True}
    found = {
        share: training_flops(model.config, V, L, rates, conditioned=share, **options)
        for share in (0.0, 0.5, 1.0)
    }
    assert found[1.0] - found[0.0] == pytest.approx(made)
    assert found[0.5] == pytest.approx((found[0.0] + found[1.0]) / 2)
    plain = network(on=False).config
    assert training_flops(plain, V, L, rates, conditioned=1.0, **options) == found[0.0]
