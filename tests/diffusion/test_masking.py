"""What is hidden and what is predicted."""

import math

import pytest
import torch

from unmask.diffusion.masking import MASKINGS, exact_count
from unmask.diffusion.noise import Stream, uniform

MASK = 50
BERNOULLI, NEXT = MASKINGS["bernoulli"].corrupt, MASKINGS["next-token"].corrupt


def batch(rows, length, pad_from=None):
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(MASK, (rows, length), generator=generator)
    u = uniform(0, Stream.MASK, 0, torch.arange(rows), length)
    valid = None
    if pad_from is not None:
        valid = torch.arange(length)[None, :] < torch.as_tensor(pad_from)[:, None]
    return x, u, valid


def test_rate_of_masks_is_t_at_every_position():
    x, u, _ = batch(4000, 30)
    for t in (0.02, 0.5, 0.93):
        masked = BERNOULLI(x, torch.full((4000,), t), u, None, MASK).predicted.double()
        error = (t * (1 - t)) ** 0.5
        assert abs(float(masked.mean()) - t) < 4 * error / 120_000**0.5
        assert ((masked.mean(dim=0) - t).abs() < 4.5 * error / 4000**0.5).all()


def test_masks_of_two_positions_are_independent():
    x, u, _ = batch(4000, 30)
    masked = BERNOULLI(x, torch.full((4000,), 0.3), u, None, MASK).predicted.double()
    off_diagonal = torch.corrcoef(masked.T) - torch.eye(30)
    assert off_diagonal.abs().max() < 5 / 4000**0.5


def test_each_row_has_its_own_rate():
    x, u, _ = batch(3, 20_000)
    t = torch.tensor([0.1, 0.5, 0.9])
    rate = BERNOULLI(x, t, u, None, MASK).predicted.double().mean(dim=1)
    torch.testing.assert_close(rate, t.double(), rtol=0, atol=0.015)


def test_rate_one_masks_everything_and_the_least_rate_next_to_nothing():
    x, u, _ = batch(64, 64)
    assert BERNOULLI(x, torch.ones(64), u, None, MASK).predicted.all()
    least = torch.full((64,), torch.finfo(torch.float32).tiny)
    assert not BERNOULLI(x, least, u, None, MASK).predicted[u > 0].any()


def test_predicted_positions_are_hidden_and_only_they():
    x, u, valid = batch(40, 16, pad_from=torch.arange(40) % 17)
    out = BERNOULLI(x, torch.full((40,), 0.6), u, valid, MASK)
    assert out.predicted.any() and not (out.predicted & ~valid).any()
    assert (out.inputs[out.predicted] == MASK).all()
    assert torch.equal(out.inputs[~out.predicted], x[~out.predicted])
    unpadded = BERNOULLI(x, torch.full((40,), 0.6), u, None, MASK).predicted
    assert torch.equal(out.predicted, unpadded & valid)


def test_next_token_predicts_every_valid_token_from_those_before_it():
    x, u, valid = batch(5, 6, pad_from=[6, 3, 1, 6, 2])
    for mask in (None, valid):
        out = NEXT(x, torch.ones(5), u, mask, MASK)
        assert torch.equal(out.inputs[:, 1:], x[:, :-1])
        assert (out.inputs[:, 0] == MASK).all()
        expected = torch.ones(5, 6, dtype=torch.bool) if mask is None else valid
        assert torch.equal(out.predicted, expected)
        assert out.predicted[:, 0].all()


def test_the_batch_is_left_alone():
    x, u, valid = batch(5, 6, pad_from=[6, 3, 1, 6, 2])
    before = x.clone(), valid.clone()
    for masking in MASKINGS.values():
        masking.corrupt(x, torch.ones(5), u, valid, MASK)
    assert torch.equal(x, before[0]) and torch.equal(valid, before[1])


def test_only_next_token_is_causal():
    causal = {name for name, masking in MASKINGS.items() if masking.causal}
    assert causal == {"next-token", "shifted-next-token"}


def test_shifted_next_token_leaves_the_inputs_to_the_network():
    x, u, valid = batch(5, 6, pad_from=[6, 3, 1, 6, 2])
    for mask in (None, valid):
        out = MASKINGS["shifted-next-token"].corrupt(x, torch.ones(5), u, mask, MASK)
        assert torch.equal(out.inputs, x)
        assert torch.equal(out.predicted, NEXT(x, torch.ones(5), u, mask, MASK).predicted)


@pytest.mark.parametrize(
    ("name", "r"), [("spans", 0.7), ("scattered", -0.7), ("alternating", -0.9)]
)
def test_correlated_masks_keep_the_rate_and_have_the_stated_correlation(name, r):
    """Of neighbouring masks at t = 1/2: 2 asin(r) / pi, for noise of correlation r (Sheppard)."""
    x, u, valid = batch(4000, 30, pad_from=[25] * 4000)
    corrupt = MASKINGS[name].corrupt
    for t in (0.1, 0.5, 0.8):
        out = corrupt(x, torch.full((4000,), t), u, None, MASK)
        masked = out.predicted.double()
        assert torch.equal(out.inputs, x.masked_fill(out.predicted, MASK))
        assert ((masked.mean(dim=0) - t).abs() < 4.5 * (t * (1 - t) / 4000) ** 0.5).all()
    masked = corrupt(x, torch.full((4000,), 0.5), u, None, MASK).predicted.double()
    near = torch.corrcoef(masked.T)
    expected = 2 * math.asin(r) / math.pi
    assert float(near.diagonal(1).mean()) == pytest.approx(expected, abs=0.01)
    assert float(near.diagonal(2).mean()) == pytest.approx(2 * math.asin(r**2) / math.pi, abs=0.01)
    padded = corrupt(x, torch.full((4000,), 0.5), u, valid, MASK).predicted
    assert torch.equal(padded.double(), masked * valid)


@pytest.mark.parametrize("name", ["bernoulli", "spans", "scattered", "alternating"])
def test_every_mask_is_possible(name):
    x, u, _ = batch(20_000, 4)
    masked = MASKINGS[name].corrupt(x, torch.full((20_000,), 0.5), u, None, MASK).predicted
    assert len((masked.long() * 2 ** torch.arange(4)).sum(dim=1).unique()) == 16


def own_order(x, t, u, valid, log_confidence):
    """Masks in the order of a model that is as sure as is said."""
    own = MASKINGS["own-order"]
    start = own.corrupt(x, t, u, valid, MASK)
    looked_at = []

    def confidence(corrupted):
        looked_at.append(corrupted)
        return log_confidence.masked_fill(~corrupted.predicted, -math.inf)

    return start, own.refine(start, x, t, u, confidence, MASK), looked_at


@pytest.mark.parametrize("padded", [False, True])
def test_masks_of_the_own_order_hide_the_rate_and_only_masked_tokens_are_shown(padded):
    x, u, valid = batch(2000, 100, pad_from=[60] * 2000)
    valid = valid if padded else None
    n = 60 if padded else 100
    confidence = -torch.rand(2000, 100, generator=torch.Generator().manual_seed(3))
    for t in (0.05, 0.5, 0.9):
        rate = torch.full((2000,), t)
        start, out, looked_at = own_order(x, rate, u, valid, confidence)
        assert looked_at == [start]
        assert not (out.predicted & ~start.predicted).any()
        assert torch.equal(out.inputs, x.masked_fill(out.predicted, MASK))
        share = out.predicted.sum(dim=1).double() / n
        assert float(share.mean()) == pytest.approx(t, abs=4 * float(share.std()) / 2000**0.5)


def test_the_tokens_shown_are_those_the_model_is_surest_of():
    """At t = 1/2 a third of the masked ones are shown: with sure and unsure halves, the sure."""
    x, u, _ = batch(2000, 100)
    confidence = torch.full((2000, 100), -8.0)
    confidence[:, ::2] = -0.01
    start, out, _ = own_order(x, torch.full((2000,), 0.5), u, None, confidence)
    shown = start.predicted & ~out.predicted
    assert float(shown[:, ::2].sum() / shown.sum()) > 0.99
    # Which of equally sure ones are shown is left to chance, alike for each.
    even = shown[:, ::2].double().sum(dim=0) / start.predicted[:, ::2].sum(dim=0)
    assert float(even.std()) < 3 * (0.67 * 0.33 / 1500) ** 0.5


def test_every_mask_of_the_own_order_is_possible():
    """However sure the model is of some tokens; all masked only at high rates, for of n masked
    tokens (1 - t)/(1 + t) n are shown, rounded up or down."""  # noqa: D205, D209
    x, u, _ = batch(40_000, 4)
    t = (torch.arange(40_000) + 0.5) / 40_000
    confidence = torch.tensor([-0.1, -1.0, -2.0, -3.0]).expand(40_000, -1)
    _, out, _ = own_order(x, t, u, None, confidence)
    assert len((out.predicted.long() * 2 ** torch.arange(4)).sum(dim=1).unique()) == 16


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
    x, u, valid = batch(6, 10, pad_from=[10, 7, 1, 10, 4, 0])
    t = torch.tensor([1.0, 0.5, 1e-6, 0.3, 0.25, 0.9])
    corrupt = MASKINGS["fixed-count"].corrupt
    out = corrupt(x, t, u, valid, MASK)
    assert out.predicted.sum(dim=1).tolist() == [10, 4, 1, 3, 1, 0]
    assert not (out.predicted & ~valid).any()
    assert torch.equal(out.inputs, x.masked_fill(out.predicted, MASK))
    assert corrupt(x, t, u, None, MASK).predicted.sum(dim=1).tolist() == [10, 5, 1, 3, 3, 9]
