"""One token from logits: the transforms by their definitions, the draw to float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from unmask.base.errors import UserError
from unmask.diffusion.decoding import Decoding, categorical

LAST = 1 - 2.0**-53


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


def test_float32_gumbel_noise_suppresses_rare_tokens_and_ours_does_not():
    """The defect of arXiv 2409.02908, in a step of 4,096 that stays masked or draws a token.

    Gumbel-max over {mask, tokens} needs noise above log(4096 / p) for a token of probability p. The
    2^24 values of a float32 uniform end at noise 16.6, so rare tokens come too seldom: a lower
    temperature that nobody asked for. We draw the token on its own, in float64.
    """
    common, rare, steps = 0.5, 1e-4, 4096
    values = torch.arange(1, 2**24, dtype=torch.float32) / 2**24
    noise = -(-values.log()).log()
    masks_noise = -(-((torch.arange(2000) + 0.5) / 2000).log()).log()

    def chance(p):
        needed = masks_noise + math.log(steps / p)
        return float((len(noise) - torch.searchsorted(noise, needed)).double().mean() / 2**24)

    assert chance(common) * steps == pytest.approx(common, rel=0.02)
    assert chance(rare) * steps < 0.7 * rare

    rest = torch.full((200,), (1 - common - rare) / 200, dtype=torch.float64)
    p = torch.cat([torch.tensor([common, rare], dtype=torch.float64), rest])
    n = 100_000
    u = (torch.arange(n) + 0.5).double() / n
    logits = p.log().float().expand(n, -1)
    assert abs(int((categorical(logits, u) == 1).sum()) - n * rare) <= 1


PROBABILITIES = st.lists(st.floats(0.001, 1), min_size=2, max_size=9).map(
    lambda x: torch.tensor(x, dtype=torch.float64) / sum(x)
)


@given(PROBABILITIES, st.floats(0.1, 3))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_temperature_is_a_power_of_the_probabilities(p, temperature):
    found = Decoding(temperature=temperature).log_probabilities(p.log()[None])[0].exp()
    expected = p ** (1 / temperature)
    torch.testing.assert_close(found, expected / expected.sum())


@given(PROBABILITIES, st.integers(1, 9))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_top_k_keeps_the_k_likeliest(p, k):
    found = Decoding(top_k=k).log_probabilities(p.log()[None])[0].exp()
    kept = found > 0
    assert int(kept.sum()) == min(k, len(p))
    assert kept.all() or p[kept].min() >= p[~kept].max()
    torch.testing.assert_close(found[kept], p[kept] / p[kept].sum())


@given(PROBABILITIES, st.floats(0.01, 1))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_top_p_keeps_the_fewest_that_hold_p(p, top_p):
    found = Decoding(top_p=top_p).log_probabilities(p.log()[None])[0].exp()
    kept = found > 0
    assert kept.all() or p[kept].min() >= p[~kept].max()
    assert float(p[kept].sum()) >= top_p - 1e-9
    assert float(p[kept].sum() - p[kept].min()) < top_p + 1e-9 or int(kept.sum()) == 1
    torch.testing.assert_close(found[kept], p[kept] / p[kept].sum())


def test_the_transforms_come_in_this_order_temperature_top_k_top_p():
    p = torch.tensor([[0.4, 0.3, 0.2, 0.1]], dtype=torch.float64)
    found = Decoding(temperature=0.5, top_k=3, top_p=0.8).log_probabilities(p.log()).exp()
    squares = torch.tensor([16.0, 9, 4]) / 29  # 0.55 + 0.31 pass 0.8 together
    assert float(squares[0]) < 0.8 < float(squares[:2].sum())
    torch.testing.assert_close(found, torch.tensor([[16 / 25, 9 / 25, 0, 0]]).double())


def test_temperature_zero_is_the_likeliest_token_and_never_an_excluded_one():
    logits = torch.tensor([[0.0, 2.0, 2.0, -math.inf], [-math.inf, -5.0, -9.0, -math.inf]])
    for u in (0.0, 0.5, LAST):
        drawn = Decoding(temperature=0).draw(logits, torch.full((2,), u).double())
        assert drawn.tolist() == [1, 1]


@pytest.mark.parametrize("options", [{"top_k": 3}, {"top_p": 0.9}, {"temperature": 0.05}])
def test_excluded_tokens_stay_excluded(options):
    logits = 5 * torch.randn(300, 37, generator=torch.Generator().manual_seed(0))
    excluded = torch.rand(300, 37, generator=torch.Generator().manual_seed(1)) < 0.9
    excluded[:, 18] = False
    u = torch.rand(300, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    drawn = Decoding(**options).draw(logits.masked_fill(excluded, -math.inf), u)
    assert not excluded.gather(1, drawn[:, None]).any()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": -0.1}, "temperature must be 0 or more"),
        ({"temperature": math.inf}, "finite"),
        ({"top_p": 0.0}, r"top_p must be in \(0, 1\]"),
        ({"top_p": 1.01}, r"top_p must be in \(0, 1\]"),
        ({"top_k": -1}, "top_k must be 0"),
    ],
)
def test_values_out_of_range(options, said):
    with pytest.raises(UserError, match=said):
        Decoding(**options)
