"""Every estimator's expectation is the enumeration of all masks; the better ones vary less."""

import itertools

import numpy as np
import pytest
import torch
from enumeration import all_masks, all_sequences, cross_entropies, nelbo_weights, random_transformer

from unmask.base.errors import UserError
from unmask.data.blocks import Blocks
from unmask.diffusion.bound import nelbo_from_draws
from unmask.diffusion.estimators import CONTROL, ESTIMATORS, Draws, find_estimator
from unmask.diffusion.noise import GRAIN
from unmask.train.config import ValidationConfig
from unmask.train.validation import _surplus, validate

V, L = 3, 5
MASK = V
CODES = 2 ** torch.arange(L - 1, -1, -1)


def sums_by_mask(seed=0):
    """(2^L,) summed cross-entropies of a block under each mask, far from alike; 0 for none."""
    generator = torch.Generator().manual_seed(seed)
    per_token = 0.2 + 3 * torch.rand(2**L, L, generator=generator, dtype=torch.float64)
    return (per_token * all_masks(L)).sum(dim=1)


def estimates(name, table, n, m, length=L, seed=0):
    """(n,) estimates of the nats of a block whose cross-entropies are the table's."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.full((n,), length)
    draws = ESTIMATORS[name](lengths, torch.rand(n, m, generator=generator, dtype=torch.float64))
    valid = None if length == L else (torch.arange(L) < length).expand(n, -1)
    rows = torch.arange(n)
    noise = [torch.rand(n, L, generator=generator) for _ in range(m)]
    total = torch.zeros(n, dtype=torch.float64)
    for draw in range(m):
        mask = draws.mask(rows, draw, noise[draws.noise(draw)], valid)
        total += draws.weight[:, draw] * table[(mask * CODES).sum(dim=1)]
    return total


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("m", [2, 6])
def test_the_expectation_is_that_of_all_masks(name, m):
    table = sums_by_mask()
    exact = float(table @ nelbo_weights(L)) * L
    found = estimates(name, table, 40_000, m)
    assert float(found.mean()) == pytest.approx(exact, abs=4 * float(found.std()) / 200)
    assert float(found.std()) / 200 < 0.02 * exact  # sharp enough for the line above to mean it


@pytest.mark.parametrize("name", [n for n in ESTIMATORS if n not in ("independent", "stratified")])
@pytest.mark.parametrize("m", [2, 4])
def test_exact_sizes_by_enumeration(name, m):
    """With u on a fine grid and the mean over masks of a size: no noise, 3 digits."""
    table = sums_by_mask(1)
    by_size = [float(table[all_masks(L).sum(dim=1) == k].mean()) for k in range(L + 1)]
    by_size[0] = 0.0
    grid = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    u = grid[:, None].expand(-1, m)
    draws = ESTIMATORS[name](torch.full((2000,), L), u)
    expected = (draws.weight * torch.tensor(by_size, dtype=torch.float64)[draws.size]).sum(dim=1)
    exact = float(table @ nelbo_weights(L)) * L
    assert float(expected.mean()) == pytest.approx(exact, rel=2e-3)


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("length", [1, 3])
def test_padding_is_never_masked_and_the_expectation_is_the_short_block_s(name, length):
    table = torch.zeros(2**L, dtype=torch.float64)
    for mask in itertools.product([0, 1], repeat=length):
        code = sum(bit << (L - 1 - i) for i, bit in enumerate(mask))
        table[code] = sum(bit * (i + 1 + sum(mask) / 3) for i, bit in enumerate(mask))
    table[[c for c in range(2**L) if c % 2 ** (L - length)]] = torch.nan  # touches the padding
    short = table[torch.arange(2**length) << (L - length)]
    exact = float(short @ nelbo_weights(length)) * length
    found = estimates(name, table, 40_000, 2, length)
    assert float(found.mean()) == pytest.approx(exact, abs=4.5 * float(found.std()) / 200 + 1e-9)


def test_a_pair_masks_every_token_once():
    lengths = torch.tensor([5, 3, 1])
    draws = ESTIMATORS["complementary"](lengths, torch.rand(3, 6, dtype=torch.float64))
    valid = torch.arange(L) < lengths[:, None]
    rows = torch.arange(3)
    for pair in range(3):
        u = torch.rand(3, L)
        assert draws.noise(2 * pair) == draws.noise(2 * pair + 1)
        both = [draws.mask(rows, d, u, valid) for d in (2 * pair, 2 * pair + 1)]
        assert torch.equal(both[0] ^ both[1], valid)
        for d, mask in zip((2 * pair, 2 * pair + 1), both, strict=True):
            assert torch.equal(mask.sum(dim=1), draws.size[:, d])
    with pytest.raises(ValueError, match="pairs"):
        ESTIMATORS["complementary"](lengths, torch.rand(3, 5, dtype=torch.float64))


def test_better_estimators_vary_less():
    """On cross-entropies that grow with the masked fraction, as a real model's do."""
    masks = all_masks(L)
    hardness = torch.linspace(1.0, 3.0, L, dtype=torch.float64)
    table = (masks * hardness).sum(dim=1) * (1 + masks.double().mean(dim=1))
    variance = {name: float(estimates(name, table, 20_000, 4).var()) for name in ESTIMATORS}
    assert variance["stratified"] < 0.9 * variance["independent"]
    assert variance["fixed-count"] < 0.25 * variance["independent"]
    assert variance["complementary"] < variance["fixed-count"]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_validation_with_each_estimator_agrees_with_all_masks(name):
    model = random_transformer(V)
    tokens = np.random.default_rng(0).integers(V, size=(1000, L)).astype(np.uint16)
    blocks = Blocks(tokens, None, n_tokens=0, n_bytes=0)
    config = ValidationConfig(blocks=1000, draws=32, batch_size=500)
    bound = validate(model, blocks, config, MASK, estimator=name)
    texts = torch.from_numpy(tokens.astype(np.int64) @ V ** np.arange(L)[::-1])
    enumerated = cross_entropies(model, all_sequences(V, L), MASK) @ nelbo_weights(L)
    exact = float(enumerated[texts].mean())
    assert abs(bound.nelbo - exact) < 3 * bound.stderr < 0.06 * exact


def test_counts_of_bernoulli_masks_make_the_curve():
    """c(t) is the mean over masked tokens: a bin's sum over the tokens truly masked in it."""
    ce, masked = torch.tensor([[6.0, 1.0]]), torch.tensor([[3, 1]])
    rate = torch.tensor([[0.55, 0.52]], dtype=torch.float64)
    bound = nelbo_from_draws(ce, 1 / (2 * rate), masked, rate, torch.tensor([6]))
    assert bound.c_t[5] == pytest.approx(7 / 4)


@pytest.mark.parametrize("length", [1, 3, L])
def test_the_control_variate_has_no_expectation(length):
    """Over all masks of a size, which are equally likely, whatever the surprisal."""
    surprisal = torch.rand(L, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 5
    surprisal[length:] = torch.inf  # the padding's
    masks = all_masks(L)
    masks = masks[~masks[:, length:].any(dim=1)]
    valid = (torch.arange(L) < length).expand(len(masks), -1)
    surplus = _surplus(surprisal.expand(len(masks), -1), masks, valid)
    for size in range(1, length + 1):
        of_size = surplus[masks.sum(dim=1) == size]
        assert float(of_size.mean()) == pytest.approx(0, abs=1e-12)
        assert size == length or float(of_size.abs().max()) > 0.1


class Unigram:
    """A denoiser that ignores its input: every cross-entropy is the token's surprisal."""

    causal = False

    def __init__(self, shares):
        self.head = torch.nn.Linear(1, len(shares))
        self.head.weight.data.zero_()
        self.head.bias.data = shares.log()

    def __call__(self, x, valid=None):
        return torch.zeros(*x.shape, 1)


def test_the_control_variate_takes_off_what_the_surprisal_explains():
    """Where it explains everything, the standard deviation falls by the coefficient."""
    generator = np.random.default_rng(0)
    shares = torch.tensor([0.6, 0.3, 0.08, 0.02])
    tokens = generator.choice(4, size=(200, 32), p=shares.numpy() / shares.numpy().sum())
    blocks = Blocks(tokens.astype(np.uint16), None, n_tokens=0, n_bytes=0)
    exact = torch.from_numpy(np.bincount(tokens.flatten()) / tokens.size)
    spread = {}
    for name in ("complementary", "controlled"):
        config = ValidationConfig(blocks=200, draws=2)
        found = validate(Unigram(exact), blocks, config, 4, estimator=name)
        truth = -exact.log()[torch.from_numpy(tokens)].sum(dim=1)
        spread[name] = float((found.block_nats - truth).std())
    assert spread["controlled"] == pytest.approx((1 - CONTROL) * spread["complementary"], rel=1e-4)


def test_pairs_are_stratified_without_meeting_twice():
    """With one pair for each of the sizes' places, every size comes up once in either role."""
    for length in (4, 5, 8):
        u = torch.full((1, 2 * length), 0.5, dtype=torch.float64)
        draws = ESTIMATORS["complementary"](torch.tensor([length]), u)
        sizes = draws.size[0].view(-1, 2)
        assert sorted(sizes[:, 0].tolist()) == list(range(1, length + 1))
        folded = sizes.min(dim=1).values.tolist()
        assert folded == sorted(folded)


def test_an_unknown_estimator_is_told_with_the_valid_ones():
    with pytest.raises(UserError, match="did you mean 'stratified'"):
        find_estimator("stratifed")


def test_masks_in_float32_are_those_of_the_exact_rates():
    """Rates at, just below and just above multiples of the noise's grain, as float64 compares."""
    multiples = torch.tensor([1, 2, 1000, 2**23, 2**23 + 1, 2**24 - 1]).double() * GRAIN
    rates = torch.cat([multiples, multiples * (1 - 2.0**-52), multiples * (1 + 2.0**-52)])
    rates = rates.clamp(max=1.0)[:, None]
    u = torch.cat([multiples, multiples - GRAIN, (multiples + GRAIN).clamp(max=1 - GRAIN)]).float()
    u = u.expand(len(rates), -1)
    found = Draws(rates, rates).mask(torch.arange(len(rates)), 0, u, None)
    assert torch.equal(found, u.double() < rates)
    assert not torch.equal(found, u < rates.float())  # which rounds to nearest
