"""What is hidden and what is predicted."""

import math

import pytest
import torch

from unmask.base.errors import UserError
from unmask.diffusion.masking import (
    MASKINGS,
    Bernoulli,
    Correlated,
    Everything,
    FixedCount,
    OwnOrder,
    Scattered,
    Spans,
    exact_count,
)
from unmask.diffusion.noise import Stream, uniform

VOCABULARY = 50
EVERY = [
    Correlated(neighbours=-0.9),
    *(kind() for name, kind in MASKINGS.items() if name != "correlated"),
]


def batch(rows, length, pad_from=None):
    u = uniform(0, Stream.MASK, 0, torch.arange(rows), length)
    valid = None
    if pad_from is not None:
        valid = torch.arange(length)[None, :] < torch.as_tensor(pad_from)[:, None]
    return u, valid


def test_rate_of_masks_is_t_at_every_position():
    u, _ = batch(4000, 30)
    for t in (0.02, 0.5, 0.93):
        masked = Bernoulli().mask(torch.full((4000,), t), u, None).double()
        error = (t * (1 - t)) ** 0.5
        assert abs(float(masked.mean()) - t) < 4 * error / 120_000**0.5
        assert ((masked.mean(dim=0) - t).abs() < 4.5 * error / 4000**0.5).all()


def test_masks_of_two_positions_are_independent():
    u, _ = batch(4000, 30)
    masked = Bernoulli().mask(torch.full((4000,), 0.3), u, None).double()
    off_diagonal = torch.corrcoef(masked.T) - torch.eye(30)
    assert off_diagonal.abs().max() < 5 / 4000**0.5


def test_each_row_has_its_own_rate():
    u, _ = batch(3, 20_000)
    t = torch.tensor([0.1, 0.5, 0.9])
    rate = Bernoulli().mask(t, u, None).double().mean(dim=1)
    torch.testing.assert_close(rate, t.double(), rtol=0, atol=0.015)


def test_rate_one_masks_everything_and_the_least_rate_next_to_nothing():
    u, _ = batch(64, 64)
    assert Bernoulli().mask(torch.ones(64), u, None).all()
    least = torch.full((64,), torch.finfo(torch.float32).tiny)
    assert not Bernoulli().mask(least, u, None)[u > 0].any()


def test_padding_is_never_masked_and_changes_no_other_mask():
    u, valid = batch(40, 16, pad_from=torch.arange(40) % 17)
    t = torch.full((40,), 0.6)
    masked = Bernoulli().mask(t, u, valid)
    assert masked.any() and torch.equal(masked, Bernoulli().mask(t, u, None) & valid)
    for masking in (*EVERY, Everything()):
        assert not (masking.mask(t, u, valid) & ~valid).any()


def test_everything_is_everything():
    u, valid = batch(5, 6, pad_from=[6, 3, 1, 6, 2])
    t = torch.full((5,), 0.1)
    assert Everything().mask(t, u, None).all()
    assert torch.equal(Everything().mask(t, u, valid), valid)
    assert Everything().most(t, 6).tolist() == [6] * 5


def test_the_noise_is_left_alone():
    u, valid = batch(5, 6, pad_from=[6, 3, 1, 6, 2])
    before = u.clone(), valid.clone()
    for masking in EVERY:
        masking.mask(torch.ones(5), u, valid)
    assert torch.equal(u, before[0]) and torch.equal(valid, before[1])


@pytest.mark.parametrize("masking", [Spans(), Scattered(), Scattered(-0.9), Correlated(0.3)])
def test_correlated_masks_keep_the_rate_and_have_the_stated_correlation(masking):
    """Of neighbouring masks at t = 1/2: 2 asin(r) / pi, for noise of correlation r (Sheppard)."""
    r = masking.neighbours
    u, valid = batch(4000, 30, pad_from=[25] * 4000)
    for t in (0.1, 0.5, 0.8):
        masked = masking.mask(torch.full((4000,), t), u, None).double()
        assert ((masked.mean(dim=0) - t).abs() < 4.5 * (t * (1 - t) / 4000) ** 0.5).all()
    masked = masking.mask(torch.full((4000,), 0.5), u, None).double()
    near = torch.corrcoef(masked.T)
    expected = 2 * math.asin(r) / math.pi
    assert float(near.diagonal(1).mean()) == pytest.approx(expected, abs=0.01)
    assert float(near.diagonal(2).mean()) == pytest.approx(2 * math.asin(r**2) / math.pi, abs=0.01)
    padded = masking.mask(torch.full((4000,), 0.5), u, valid)
    assert torch.equal(padded.double(), masked * valid)


@pytest.mark.parametrize("r", [-1.0, 1.0, 3.0, math.nan])
def test_a_correlation_lies_between_minus_one_and_one(r):
    with pytest.raises(UserError, match="between -1 and 1"):
        Correlated(r)


@pytest.mark.parametrize("masking", [Bernoulli(), Spans(), Scattered(), Scattered(-0.9)])
def test_every_mask_is_possible(masking):
    u, _ = batch(20_000, 4)
    masked = masking.mask(torch.full((20_000,), 0.5), u, None)
    assert len((masked.long() * 2 ** torch.arange(4)).sum(dim=1).unique()) == 16


def own_order(t, u, valid, log_confidence):
    """Masks in the order of a model that is as sure as is said."""
    start = OwnOrder().mask(t, u, valid)
    noise = uniform(0, Stream.REVEAL, 0, torch.arange(len(u)), u.shape[1] + 1)
    confidence = log_confidence.masked_fill(~start, -math.inf)
    return start, OwnOrder().refine(start, t, noise, confidence)


@pytest.mark.parametrize("padded", [False, True])
def test_masks_of_the_own_order_hide_the_rate_and_only_masked_tokens_are_shown(padded):
    u, valid = batch(2000, 100, pad_from=[60] * 2000)
    valid = valid if padded else None
    n = 60 if padded else 100
    confidence = -torch.rand(2000, 100, generator=torch.Generator().manual_seed(3))
    for t in (0.05, 0.5, 0.9):
        rate = torch.full((2000,), t)
        start, mask = own_order(rate, u, valid, confidence)
        assert not (mask & ~start).any()
        share = mask.sum(dim=1).double() / n
        assert float(share.mean()) == pytest.approx(t, abs=4 * float(share.std()) / 2000**0.5)


def test_the_tokens_shown_are_those_the_model_is_surest_of():
    """At t = 1/2 a third of the masked ones are shown: with sure and unsure halves, the sure."""
    u, _ = batch(2000, 100)
    confidence = torch.full((2000, 100), -8.0)
    confidence[:, ::2] = -0.01
    start, mask = own_order(torch.full((2000,), 0.5), u, None, confidence)
    shown = start & ~mask
    assert float(shown[:, ::2].sum() / shown.sum()) > 0.99
    # Which of equally sure ones are shown is left to chance, alike for each.
    even = shown[:, ::2].double().sum(dim=0) / start[:, ::2].sum(dim=0)
    assert float(even.std()) < 3 * (0.67 * 0.33 / 1500) ** 0.5


def test_how_many_are_shown_is_rounded_by_noise_of_its_own():
    """Of 3 masked tokens at t = 1/2 one is shown; of 4 one or two, whatever the other noise is."""
    u = torch.full((1000, 4), 0.1)
    noise = torch.full((1000, 5), 0.5)
    noise[:, -1] = (torch.arange(1000) + 0.5) / 1000
    mask = torch.tensor([True, True, True, True]).expand(1000, -1)
    half = torch.full((1000,), 0.5)
    left = OwnOrder().refine(mask, half, noise, torch.zeros_like(u)).sum(dim=1)
    assert set(left.tolist()) == {2, 3}
    assert float(left.double().mean()) == pytest.approx(4 - 4 / 3, abs=2e-3)


def test_every_mask_of_the_own_order_is_possible():
    """However sure the model is of some tokens; all masked only at high rates, for of n masked
    tokens (1 - t)/(1 + t) n are shown, rounded up or down."""  # noqa: D205, D209
    u, _ = batch(40_000, 4)
    t = (torch.arange(40_000) + 0.5) / 40_000
    confidence = torch.tensor([-0.1, -1.0, -2.0, -3.0]).expand(40_000, -1)
    _, mask = own_order(t, u, None, confidence)
    assert len((mask.long() * 2 ** torch.arange(4)).sum(dim=1).unique()) == 16


@pytest.mark.parametrize("padded", [False, True])
def test_exact_count_masks_exactly_k_of_the_valid_tokens_each_set_alike(padded):
    length, n = 5, 20_000
    valid = torch.arange(length) < 4 if padded else torch.ones(length, dtype=torch.bool)
    u = torch.rand(n, length, generator=torch.Generator().manual_seed(0))
    k = torch.full((n,), 2)
    mask = exact_count(k, u, valid.expand(n, -1) if padded else None)
    assert (mask.sum(dim=1) == 2).all()
    assert not mask[:, ~valid].any()
    codes = (mask.long() * 2 ** torch.arange(length)).sum(dim=1)
    counts = torch.bincount(codes)
    pairs = math.comb(int(valid.sum()), 2)
    seen = counts[counts > 0].double()
    assert len(seen) == pairs
    assert ((seen / n - 1 / pairs).abs() < 5 * (1 / pairs / n) ** 0.5).all()


def test_fixed_count_masks_the_rate_rounded_up_to_a_token():
    u, valid = batch(6, 10, pad_from=[10, 7, 1, 10, 4, 0])
    t = torch.tensor([1.0, 0.5, 1e-6, 0.3, 0.25, 0.9])
    mask = FixedCount().mask(t, u, valid)
    assert mask.sum(dim=1).tolist() == [10, 4, 1, 3, 1, 0]
    assert not (mask & ~valid).any()
    assert FixedCount().mask(t, u, None).sum(dim=1).tolist() == [10, 5, 1, 3, 3, 9]
