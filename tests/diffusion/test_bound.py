"""The NELBO estimate, its standard error and c(t), against enumeration of every mask."""

import math

import numpy as np
import pytest
import torch
from enumeration import (
    all_masks,
    all_sequences,
    cross_entropies,
    nelbo_weights,
    random_transformer,
)

from unmask.data.blocks import Blocks
from unmask.diffusion.bound import exact_nll, nelbo_from_draws
from unmask.train.config import ValidationConfig
from unmask.train.validation import validate

V, L = 3, 4
MASK = V


@pytest.fixture(scope="module")
def model():
    return random_transformer(V)


@pytest.fixture(scope="module")
def enumerated(model):
    """(V^L, 2^L) summed cross-entropies of every text under every mask."""
    return cross_entropies(model, all_sequences(V, L), MASK)


def random_blocks(n, *, seed, ragged=False, p=None):
    random = np.random.default_rng(seed)
    tokens = random.choice(V, size=(n, L), p=p)
    lengths = random.integers(1, L + 1, size=n) if ragged else None
    return Blocks(tokens, lengths, n_tokens=0, n_bytes=0)


def text_numbers(blocks):
    """Row of each block in `all_sequences`."""
    return torch.from_numpy(blocks.tokens @ V ** np.arange(L)[::-1])


def test_estimate_agrees_with_all_masks(model, enumerated):
    """On 2,000 texts, to 1%: the estimate is within its standard error of the exact integral."""
    blocks = random_blocks(2000, seed=0)
    bound = validate(model, blocks, ValidationConfig(blocks=2000, draws=32, batch_size=2000), MASK)
    exact_per_text = enumerated @ nelbo_weights(L)
    # The texts are the same on both sides: only the noise of masks and rates is left.
    exact = float(exact_per_text[text_numbers(blocks)].mean())
    assert bound.stderr < 0.02 * exact
    assert abs(bound.nelbo - exact) < 3 * bound.stderr
    assert bound.tokens == 2000 * L


def test_curve_agrees_with_all_masks(model, enumerated):
    blocks = random_blocks(2000, seed=1, p=[0.1, 0.8, 0.1])
    bound = validate(model, blocks, ValidationConfig(blocks=2000, draws=32, batch_size=2000), MASK)
    mean_ce = enumerated[text_numbers(blocks)].mean(dim=0)
    sizes = all_masks(L).sum(dim=1)
    exact = [None] * 10
    for k in range(1, L + 1):  # 1/4, 2/4, 3/4 and 4/4 of the tokens: four of the ten bins
        exact[min(10 * k // L, 9)] = pytest.approx(float(mean_ce[sizes == k].mean()) / k, rel=0.02)
    assert bound.c_t == exact
    measured = [c for c in bound.c_t if c is not None]
    assert max(measured) > 1.25 * min(measured)  # bins could be told apart


def test_bernoulli_masks_and_masks_of_uniform_size_have_one_expectation(enumerated):
    """Integrating t out of the Bernoulli masks leaves the size uniform on 1..L, weight L/k."""
    sizes = all_masks(L).sum(dim=1)
    by_size = [enumerated[:, sizes == k].mean(dim=1) / k for k in range(1, L + 1)]
    torch.testing.assert_close(sum(by_size) / L, enumerated @ nelbo_weights(L))


def test_bernoulli_draws_agree_with_all_masks_too(model, enumerated):
    """The estimator as the field draws it: independent t, Bernoulli masks, weight 1/t."""
    blocks, m = random_blocks(2000, seed=3), 32
    rows = text_numbers(blocks)
    generator = torch.Generator().manual_seed(0)
    t = torch.rand(2000, m, dtype=torch.float64, generator=generator)
    mask = torch.rand(2000, m, L, generator=generator) < t[..., None]
    column = (mask.long() * 2 ** torch.arange(L - 1, -1, -1)).sum(dim=-1)
    ce = enumerated[rows[:, None], column]
    bound = nelbo_from_draws(ce, 1 / (m * t), mask.sum(dim=-1), t, torch.full((2000,), L))
    exact = float((enumerated @ nelbo_weights(L))[rows].mean())
    assert abs(bound.nelbo - exact) < 3 * bound.stderr < 0.06 * exact


def exact_pooled(model, lengths=range(1, L + 1)):
    """Exact NELBO of the population that ragged `random_blocks` are drawn from."""
    nats = [
        float((cross_entropies(model, all_sequences(V, n), MASK) @ nelbo_weights(n)).mean()) * n
        for n in lengths
    ]
    return sum(nats) / sum(lengths)


@pytest.mark.parametrize(
    ("ragged", "sets"),
    [
        (False, 80),
        pytest.param(True, 400, marks=pytest.mark.slow),
        pytest.param(False, 400, marks=pytest.mark.slow),
    ],
)
def test_standard_error_is_honest(model, enumerated, ragged, sets):
    """Over many sets of random texts the estimates spread as their standard errors say."""
    bounds = []
    for seed in range(sets):
        config = ValidationConfig(blocks=64, draws=4, batch_size=64, seed=seed)
        bounds.append(validate(model, random_blocks(64, seed=seed, ragged=ragged), config, MASK))
    nelbo = np.array([b.nelbo for b in bounds])
    stderr = np.array([b.stderr for b in bounds])
    assert np.sqrt((stderr**2).mean()) == pytest.approx(nelbo.std(ddof=1), rel=0.15)
    exact = exact_pooled(model) if ragged else float((enumerated @ nelbo_weights(L)).mean())
    assert nelbo.mean() == pytest.approx(exact, abs=3.5 * nelbo.std() / sets**0.5)
    covered = np.abs(nelbo - exact) < 1.96 * stderr
    assert 0.9 < covered.mean() < 0.99


def test_standard_error_of_a_ratio_by_hand():
    """Blocks of 1 and 3 tokens with 2 and 3 nats: 5/4, residuals 3/4 and -3/4."""
    bound = exact_nll(torch.tensor([2.0, 3.0]), torch.tensor([1, 3]))
    assert bound.nelbo == 1.25
    assert bound.stderr == pytest.approx(math.sqrt(2 * 0.75**2 / (2 - 1) / 2) / 2)
    assert (bound.tokens, bound.c_t) == (4, None)


def test_estimate_by_hand():
    """Each draw counts ce / t, a block its draws' mean, the whole total nats over total tokens."""
    t = torch.tensor([[0.25, 1.0], [0.001, 0.75]], dtype=torch.float64)
    bound = nelbo_from_draws(
        ce=torch.tensor([[1.0, 4.0], [0.003, 6.0]]),
        weight=1 / (2 * t),
        masked=torch.tensor([[1, 2], [1, 4]]),
        t=t,
        lengths=torch.tensor([2, 4]),
    )
    assert bound.nelbo == pytest.approx(((4 + 4) / 2 + (3 + 8) / 2) / 6)
    curve = [0.003, None, 1.0, None, None, None, None, 1.5, None, 2.0]
    assert [c and round(c, 6) for c in bound.c_t] == curve


def test_one_block_has_no_standard_error():
    bound = exact_nll(torch.tensor([2.0]), torch.tensor([4]))
    assert math.isnan(bound.stderr) and bound.record()["stderr"] is None


def test_units():
    bound = exact_nll(torch.tensor([100 * math.log(8)]), torch.tensor([100]))
    assert bound.ppl == pytest.approx(8)
    assert bound.bits_per_byte(tokens=100, n_bytes=400) == pytest.approx(3 / 4)
    endless = exact_nll(torch.tensor([1e4]), torch.tensor([1]))
    assert endless.ppl == math.inf and endless.record()["ppl"] is None


def test_blocks_add_up_to_the_whole(model):
    """Per-block nats, which paired comparisons use, are those of the estimate."""
    blocks = random_blocks(20, seed=0, ragged=True)
    bound = validate(model, blocks, ValidationConfig(blocks=20), MASK)
    assert bound.block_tokens.tolist() == blocks.lengths.tolist()
    assert float(bound.block_nats.sum()) / bound.tokens == pytest.approx(bound.nelbo)
    record = bound.block_record()
    assert record["nats"] == pytest.approx(bound.block_nats.tolist(), abs=1e-5)
