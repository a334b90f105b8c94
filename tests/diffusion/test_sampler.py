"""Samplers against the joint distributions that exact conditionals define."""

import math
from itertools import pairwise

import pytest
import torch
from enumeration import all_sequences, conditionals, random_joint
from scipy import stats

from unmask.diffusion.sampler import ancestral, categorical, left_to_right

V, L = 3, 3
MASK = V
JOINT = random_joint(V, L)
TEXTS = all_sequences(V, L)
LAST = 1 - 2.0**-53
TABLE = conditionals(JOINT, all_sequences(V + 1, L), V, MASK).log()  # log 0 = -inf where visible


def number(x, base):
    return (x * base ** torch.arange(x.shape[1] - 1, -1, -1)).sum(dim=1)


def denoise(x, where):
    """Perfect denoiser: the joint's conditionals given the visible tokens; the mask gets -inf."""
    logits = TABLE[number(x, V + 1)]
    never = torch.full((*x.shape, 1), -math.inf, dtype=torch.float64)
    return torch.cat([logits, never], dim=-1)[where]


def predict_next(prefix, where):
    """Perfect causal model: P(last token of the prefix | those before), inputs shifted right."""
    seen = prefix[:, 1:]
    x = torch.full((len(prefix), L), MASK)
    x[:, : seen.shape[1]] = seen
    last = torch.zeros(len(prefix), L, dtype=torch.bool)
    last[:, seen.shape[1]] = where[:, -1]
    assert not where[:, :-1].any() and (prefix[:, 0] == MASK).all()
    return denoise(x, last)


def masks(n, length=L):
    return torch.full((n, length), MASK)


def p_value(samples, probabilities):
    """Chi-square of sampled texts against the probabilities of `TEXTS`."""
    assert (samples != MASK).all()
    counts = torch.bincount(number(samples, V), minlength=V**L).double()
    return stats.chisquare(counts.numpy(), (probabilities * len(samples)).numpy()).pvalue


def product_of_marginals():
    marginals = TABLE[-1].exp()  # the last row: everything masked
    return torch.stack([marginals[i, TEXTS[:, i]] for i in range(L)]).prod(dim=0)


def uninformed(x, where):
    """Equal odds for every token but the mask, and a note of how often it was asked."""
    uninformed.calls += 1
    logits = torch.zeros(int(where.sum()), V + 1)
    logits[:, MASK] = -math.inf
    return logits


@pytest.fixture(autouse=True)
def no_calls_yet():
    uninformed.calls = 0


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_categorical_inverts_the_softmax(temperature):
    """An even grid of u gives each token its share to within one draw."""
    logits = 2 * torch.randn(1, 12, generator=torch.Generator().manual_seed(0)) / temperature
    n = 40_000
    u = (torch.arange(n) + 0.5).double() / n
    counts = torch.bincount(categorical(logits.expand(n, -1), u), minlength=12).double()
    expected = n * torch.softmax(logits.double(), dim=-1)[0]
    assert (counts - expected).abs().max() <= 1.001


def test_categorical_matches_the_softmax_by_chi_square():
    logits = torch.randn(12, generator=torch.Generator().manual_seed(0))
    u = torch.rand(40_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    counts = torch.bincount(categorical(logits.expand(40_000, -1), u), minlength=12)
    assert (
        stats.chisquare(counts.numpy(), (40_000 * logits.double().softmax(0)).numpy()).pvalue > 1e-3
    )


@pytest.mark.parametrize("u", [0.0, 2.0**-53, 0.5, LAST])
def test_categorical_never_draws_what_is_excluded(u):
    """At both ends of u, with exclusions first, last and between, whatever the sum rounds to."""
    logits = 5 * torch.randn(500, 37, generator=torch.Generator().manual_seed(0))
    excluded = torch.rand(500, 37, generator=torch.Generator().manual_seed(1)) < 0.5
    excluded[:, 0] = excluded[:, -1] = True
    excluded[:, 18] = False
    drawn = categorical(logits.masked_fill(excluded, -math.inf), torch.full((500,), u).double())
    assert not excluded.gather(1, drawn[:, None]).any()


def test_categorical_at_the_ends_draws_the_first_and_last_token():
    ends = torch.tensor([0.0, LAST], dtype=torch.float64)
    assert categorical(torch.zeros(2, 7), ends).tolist() == [0, 6]


def test_categorical_keeps_tails_that_float32_loses():
    """At temperature 1/30 a token of probability 1e-13 has its own sliver of u, exactly."""
    logits = torch.tensor([[0.0, -1.0]]) * 30
    p = 1 / (1 + math.exp(30))
    u = torch.tensor([1 - 2 * p, 1 - 1.01 * p, 1 - 0.99 * p, 1 - 0.5 * p], dtype=torch.float64)
    assert categorical(logits.expand(4, -1), u).tolist() == [0, 0, 1, 1]


def test_categorical_switches_tokens_where_float64_says():
    """The boundary between two tokens is exact to 1e-13; float32 would miss it by 1e-8."""
    logits = torch.tensor([0.0, 0.3])
    boundary = 1 / (1 + math.exp(float(logits[1])))
    u = torch.tensor([boundary - 1e-13, boundary + 1e-13], dtype=torch.float64)
    assert categorical(logits.expand(2, -1), u).tolist() == [0, 1]


def test_one_step_draws_from_the_product_of_marginals():
    samples = ancestral(denoise, masks(8000), MASK, steps=1, seed=0)
    assert p_value(samples, product_of_marginals()) > 1e-3
    assert p_value(samples, JOINT) < 1e-10


def test_many_steps_draw_from_the_joint():
    samples = ancestral(denoise, masks(8000), MASK, steps=200, seed=0)
    assert p_value(samples, JOINT) > 1e-3
    assert p_value(samples, product_of_marginals()) < 1e-10


def test_left_to_right_draws_from_the_joint():
    samples = left_to_right(predict_next, masks(20_000), MASK, seed=0)
    assert p_value(samples, JOINT) > 1e-3


def test_prompts_condition_the_joint():
    """With the middle token given, the rest follows the joint given it."""
    x = masks(8000)
    x[:, 1] = 2
    samples = ancestral(denoise, x, MASK, steps=200, seed=0)
    assert (samples[:, 1] == 2).all()
    given = torch.where(TEXTS[:, 1] == 2, JOINT, 0.0)
    kept = given > 0
    counts = torch.bincount(number(samples, V), minlength=V**L)[kept].double()
    expected = 8000 * given[kept] / given.sum()
    assert stats.chisquare(counts.numpy(), expected.numpy()).pvalue > 1e-3


def test_revealed_tokens_never_change_and_the_share_revealed_is_linear():
    shown = []
    n, length, steps = 500, 20, 10
    ancestral(uninformed, masks(n, length), MASK, steps, 0, lambda x: shown.append(x.clone()))
    assert len(shown) == steps
    for before, after in pairwise(shown):
        assert torch.equal(after[before != MASK], before[before != MASK])
    share = torch.tensor([float((x != MASK).double().mean()) for x in shown])
    torch.testing.assert_close(share, torch.arange(1, 11) / 10, rtol=0, atol=0.025)


@pytest.mark.parametrize("steps", [1, 2, 12, 120])
def test_no_mask_remains(steps):
    samples = ancestral(uninformed, masks(50, 12), MASK, steps, 0)
    assert ((samples >= 0) & (samples < V)).all()


def test_the_network_is_called_only_in_steps_that_reveal():
    shown = [masks(1, 12)]
    ancestral(uninformed, shown[0], MASK, 500, 0, lambda x: shown.append(x.clone()))
    revealing = sum(not torch.equal(a, b) for a, b in pairwise(shown))
    assert uninformed.calls == revealing <= 12


@pytest.mark.parametrize("sample", ["ancestral", "left_to_right"])
class TestBothSamplers:
    def draw(self, sample, x, seed):
        if sample == "ancestral":
            return ancestral(uninformed, x, MASK, 9, seed)
        return left_to_right(uninformed, x.clone(), MASK, seed)

    def test_a_row_does_not_depend_on_its_batch(self, sample):
        many = self.draw(sample, masks(8, 12), 0)
        assert torch.equal(self.draw(sample, masks(3, 12), 0), many[:3])
        assert len(many.unique(dim=0)) == 8

    def test_the_seed_decides(self, sample):
        first = self.draw(sample, masks(8, 12), 0)
        assert torch.equal(first, self.draw(sample, masks(8, 12), 0))
        assert not (first == self.draw(sample, masks(8, 12), 1)).all(dim=1).any()

    def test_given_tokens_stay(self, sample):
        x = masks(30, 12)
        given = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) < 0.4
        x[given] = 1
        drawn = self.draw(sample, x, 0)
        assert (drawn[given] == 1).all() and (drawn != MASK).all()
        assert len(drawn[~given].unique()) == V

    def test_nothing_to_fill_costs_nothing(self, sample):
        x = torch.ones(4, 12, dtype=torch.int64)
        assert torch.equal(self.draw(sample, x, 0), x)
        assert uninformed.calls == 0


def test_ancestral_leaves_its_argument_alone():
    x = masks(4, 12)
    ancestral(uninformed, x, MASK, 9, 0)
    assert (x == MASK).all()


def test_left_to_right_leaves_its_argument_alone():
    x = masks(4, 12)
    left_to_right(uninformed, x, MASK, 0)
    assert (x == MASK).all()
