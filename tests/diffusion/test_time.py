"""Every distribution of the mask rate: quantile and density against scipy and each other."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from unmask.base.errors import UserError
from unmask.diffusion.time import (
    TIME_DISTRIBUTIONS,
    Beta,
    Density,
    LogitNormal,
    Mirrored,
    Mixture,
    TruncatedNormal,
    Uniform,
)
from unmask.recipe.parse import parse_recipe

DOUBLE = torch.float64
BULK = torch.linspace(0.01, 0.99, 99, dtype=DOUBLE)
TAILS = torch.tensor([2.0**-50, 1e-9, 1e-5, 1 - 1e-5, 1 - 1e-9], dtype=DOUBLE)
U = torch.cat([BULK, TAILS])


class LogitNormalReference:
    """What scipy lacks."""

    def __init__(self, loc, scale):
        self.normal = stats.norm(loc, scale)

    def cdf(self, t):
        return self.normal.cdf(special.logit(t))

    def pdf(self, t):
        return self.normal.pdf(special.logit(t)) / (t * (1 - t))


def reference(p):
    """The same distribution by scipy."""
    if isinstance(p, Uniform):
        return stats.uniform(p.low, p.high - p.low)
    if isinstance(p, TruncatedNormal):
        a, b = (p.low - p.mean) / p.std, (p.high - p.mean) / p.std
        return stats.truncnorm(a, b, loc=p.mean, scale=p.std)
    if isinstance(p, LogitNormal):
        return LogitNormalReference(p.loc, p.scale)
    return stats.beta(p.alpha, p.beta)


def intervals(narrowest):
    ends = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted)
    return ends.filter(lambda pair: pair[1] - pair[0] > narrowest)


def logarithmic(low, high):
    return st.floats(math.log(low), math.log(high)).map(math.exp)


CLOSED_FORM = st.one_of(
    intervals(1e-3).map(lambda ends: Uniform(*ends)),
    st.builds(
        lambda mean, std, ends: TruncatedNormal(mean, std, *ends),
        st.floats(-0.5, 1.5),
        logarithmic(0.1, 30),
        intervals(0.05),
    ),
    st.builds(LogitNormal, st.floats(-4, 4), logarithmic(0.1, 4)),
)
BETAS = st.builds(Beta, logarithmic(0.3, 12), logarithmic(0.3, 12))  # whose quantile is a table
EXTREME = [
    Uniform(0.999, 1.0),
    Uniform(0.0, 1e-6),
    TruncatedNormal(0.5, 0.01),
    TruncatedNormal(-3.0, 0.2),  # the far tails, where mass is 1e-50
    TruncatedNormal(4.0, 0.2),
    TruncatedNormal(0.5, 1e4),  # as good as uniform
    LogitNormal(-10.0, 0.5),
    LogitNormal(0.0, 0.02),
    Beta(0.3, 0.05),
    Beta(300.0, 300.0),
    Beta(1.0, 10.0),
]
SKEWED = [
    Beta(0.2, 100.0),
    Beta(1000.0, 1.0),
    Beta(1000.0, 0.01),
    Beta(50.0, 0.5),
    Beta(0.5, 1000.0),
    Beta(1e5, 1e5),
]

on_extremes = pytest.mark.parametrize("p", EXTREME, ids=str)
on_skewed_betas = pytest.mark.parametrize("p", SKEWED, ids=str)


def assert_quantile_inverts_cdf(p):
    """Scipy's CDF passes u at quantile(u), give or take rounding in t and in u."""
    t, u, cdf = p.quantile(U).numpy(), U.numpy(), reference(p).cdf
    slack_t, slack_u = 1e-11 + 1e-8 * t, 1e-12 + 1e-8 * u
    assert (cdf(np.maximum(t - slack_t, 0)) <= u + slack_u).all()
    assert (cdf(np.minimum(t + slack_t, 1)) >= u - slack_u).all()


def assert_cdf_inverts_quantile(p):
    """quantile(CDF(t)) == t wherever the CDF still resolves t."""
    exact = reference(p)
    t = p.quantile(BULK)
    back = p.quantile(torch.from_numpy(exact.cdf(t.numpy())))
    unresolved = torch.from_numpy(1e-14 / np.maximum(exact.pdf(t.numpy()), 1e-300))
    assert ((back - t).abs() <= 1e-8 * t + unresolved).all()


def assert_pdf_matches(p):
    t = p.quantile(BULK)
    t = t[(t > 1e-30) & (t < 1 - 1e-6)]  # scipy's own logit is not accurate closer to 1
    np.testing.assert_allclose(p.pdf(t).numpy(), reference(p).pdf(t.numpy()), rtol=1e-6)


def assert_pdf_integrates_between_quantiles(p):
    """Integral of the pdf from quantile(a) to quantile(b) is b - a; the whole is then 1."""
    t = p.quantile(BULK).clamp(max=1 - 1e-12)
    z = torch.logit(t)  # in logit(t) no density is singular
    nodes, weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(40))
    half = (z[1:] - z[:-1])[:, None] / 2
    s = torch.sigmoid(z[:-1, None] + half * (1 + nodes))
    parts = (half * weights * p.pdf(s) * s * (1 - s)).sum(dim=1)
    reached = t[1:] < 1 - 1e-9
    torch.testing.assert_close(
        parts[reached], torch.full_like(parts, 0.01)[reached], rtol=1e-5, atol=0
    )


def assert_ends_are_safe(p):
    """t in (0, 1] and finite 1/t, non-decreasing, in float32 and at u = 0 and 1."""
    for dtype in (torch.float32, torch.float64):
        u = torch.cat([torch.tensor([0.0, 1.0]), U]).to(dtype).sort().values
        t = p.quantile(u)
        assert t.dtype == dtype and p.pdf(t).dtype == dtype
        assert ((t > 0) & (t <= 1)).all()
        assert (1 / t.float()).isfinite().all()
        assert (t.diff() >= 0).all()


@given(p=CLOSED_FORM)
@settings(max_examples=15)
def test_quantile_pdf_and_scipy_agree(p):
    assert_consistent(p)


@given(p=BETAS)
@settings(max_examples=5)
def test_quantile_pdf_and_scipy_agree_for_beta(p):
    assert_consistent(p)


@pytest.mark.slow
@given(p=CLOSED_FORM)
@settings(max_examples=100)
def test_quantile_pdf_and_scipy_agree_for_more(p):
    assert_consistent(p)


@pytest.mark.slow
@given(p=BETAS)
@settings(max_examples=25)
def test_quantile_pdf_and_scipy_agree_for_more_betas(p):
    assert_consistent(p)


def assert_consistent(p):
    assert_quantile_inverts_cdf(p)
    assert_cdf_inverts_quantile(p)
    assert_pdf_matches(p)
    assert_pdf_integrates_between_quantiles(p)
    assert_ends_are_safe(p)


@on_extremes
def test_quantile_and_pdf_agree_with_scipy_at_extreme_parameters(p):
    assert_quantile_inverts_cdf(p)
    assert_pdf_matches(p)


@on_extremes
def test_ends_are_safe_at_extreme_parameters(p):
    assert_ends_are_safe(p)


@on_skewed_betas
def test_quantile_of_a_very_skewed_beta_is_right(p):
    assert_quantile_inverts_cdf(p)


@pytest.mark.parametrize(
    ("p", "low", "high"),
    [
        (Uniform(0.3, 0.8), 0.3, 0.8),
        (TruncatedNormal(0.5, 0.2, 0.1, 0.7), 0.1, 0.7),
        (TruncatedNormal(0.5, 0.01, 0.1, 0.7), 0.1, 0.7),
        (LogitNormal(), 0, 1),
        (Beta(), 0, 1),
        (Beta(30.0, 30.0), 0, 1),
    ],
    ids=str,
)
def test_support_is_where_quantile_begins_and_ends_and_pdf_is_zero_outside(p, low, high):
    ends = p.quantile(torch.tensor([0.0, 1.0], dtype=DOUBLE))
    torch.testing.assert_close(ends, torch.tensor([low, high], dtype=DOUBLE), rtol=0, atol=1e-9)
    outside = torch.tensor([low - 1e-3, high + 1e-3, -1.0, 2.0], dtype=DOUBLE)
    assert (p.pdf(outside) == 0).all()


def test_shapes_are_kept():
    for kind in TIME_DISTRIBUTIONS.values():
        assert kind().quantile(torch.rand(2, 3)).shape == (2, 3)


def test_every_distribution_is_tested_here():
    assert set(TIME_DISTRIBUTIONS.values()) == {Uniform, TruncatedNormal, LogitNormal, Beta}


@pytest.mark.parametrize(
    ("kind", "parameters", "complaint"),
    [
        (Uniform, (0.5, 0.5), "low < high"),
        (Uniform, (-0.1, 0.5), "0 <= low"),
        (Uniform, (0.5, 1.1), "high <= 1"),
        (Uniform, (math.nan, 1), "low"),
        (TruncatedNormal, (0.5, 0.0), "std > 0"),
        (TruncatedNormal, (0.5, -1.0), "std > 0"),
        (TruncatedNormal, (math.inf, 0.2), "need"),
        (TruncatedNormal, (math.nan, 0.2), "need"),
        (TruncatedNormal, (0.5, math.nan), "std > 0"),
        (TruncatedNormal, (0.5, 0.2, 0.6, 0.4), "low < high"),
        (TruncatedNormal, (9.0, 0.01), "no mass"),
        (LogitNormal, (0.0, 0.0), "scale > 0"),
        (LogitNormal, (math.nan, 1.0), "need"),
        (Beta, (0.0, 1.0), "alpha > 0"),
        (Beta, (1.0, -1.0), "beta > 0"),
        (Beta, (math.nan, 1.0), "alpha > 0"),
        (LogitNormal, (0.0, math.inf), "scale"),
        (Beta, (math.inf, 1.0), "alpha"),
        (Beta, (1.0, math.inf), "beta"),
    ],
)
def test_bad_parameters_are_refused(kind, parameters, complaint):
    with pytest.raises(UserError, match=complaint):
        kind(*parameters)


@dataclass(frozen=True)
class Triangle(Density):
    """What is in no file of the package: a density, and nothing else."""

    peak: float = 0.4

    def _pdf(self, t):
        return torch.where(t < self.peak, 2 * t / self.peak, 2 * (1 - t) / (1 - self.peak))


@dataclass(frozen=True)
class Arcsine(Density):
    """On [low, high], with a pole at either end."""

    low: float = 0.3
    high: float = 0.7

    @property
    def support(self):
        return self.low, self.high

    def _pdf(self, t):
        return 1 / (math.pi * torch.sqrt((t - self.low) * (self.high - t)))


@dataclass(frozen=True)
class Level(Density):
    """A constant: a density only where it is 1."""

    height: float = 1.0

    def _pdf(self, t):
        return torch.full_like(t, self.height)


def test_a_density_is_all_that_a_new_distribution_needs(monkeypatch):
    monkeypatch.setitem(TIME_DISTRIBUTIONS, "triangle", Triangle)
    recipe = parse_recipe("flat:time=triangle,peak=0.25")
    assert recipe.main.time == Triangle(0.25) and parse_recipe(recipe.spec()) == recipe
    n = 512
    (portion,) = recipe.portions(seed=0, step=3, steps=9, slots=torch.arange(n), batch_size=n)
    t = portion.t
    cdf = stats.triang(c=0.25).cdf(t.sort().values.numpy())
    strata = np.arange(n) / n  # one rate in each
    assert (cdf >= strata - 1e-6).all() and (cdf <= strata + 1 / n + 1e-6).all()


@pytest.mark.parametrize("peak", [0.02, 0.4, 0.9])
def test_a_table_is_accurate_next_to_a_kink(peak):
    cdf = stats.triang(c=peak).cdf(Triangle(peak).quantile(U).numpy())
    np.testing.assert_allclose(cdf, U.numpy(), rtol=1e-6, atol=1e-12)


def test_a_table_is_accurate_between_poles_inside_the_unit_interval():
    p = Arcsine()
    cdf = stats.arcsine(0.3, 0.4).cdf(p.quantile(BULK).numpy())
    np.testing.assert_allclose(cdf, BULK.numpy(), rtol=1e-7)
    assert p.quantile(torch.tensor([0.0, 1.0])).tolist() == pytest.approx([0.3, 0.7])


@given(p=BETAS)
@settings(max_examples=10, deadline=None, derandomize=True)
def test_a_table_never_falls(p):
    u = torch.linspace(0, 1, 20_001, dtype=DOUBLE)
    assert (p.quantile(u).diff() >= 0).all()


@pytest.mark.parametrize("height", [0.5, 0.9, 1.1, 2.0])
def test_what_does_not_integrate_to_one_is_no_density(height):
    with pytest.raises(UserError, match=r"Level\(height=.*not to 1"):
        Level(height).quantile(BULK)
    torch.testing.assert_close(Level(1.0).quantile(BULK), BULK)


def test_a_peak_too_narrow_for_the_table_is_an_error_and_no_wrong_rates():
    with pytest.raises(UserError, match="too narrow"):
        Beta(1e12, 1e12).quantile(BULK)


PARTS = st.one_of(CLOSED_FORM, st.just(Beta(0.7, 2.0)))


@given(PARTS, PARTS, st.floats(0, 1))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_a_mixture_draws_its_parts_in_their_shares(first, second, share):
    p, n = Mixture(first, second, share), 2000
    u = (torch.arange(n, dtype=DOUBLE) + 0.5) / n
    t, k = p.draw(u), int((u < share).sum())
    for part, drawn in ((first, t[:k]), (second, t[k:])):
        assert (drawn.diff() >= 0).all()
        if len(drawn) > 50:  # the strata's middles are the part's quantiles, a stratum apart
            there = (torch.arange(len(drawn), dtype=DOUBLE) + 0.5) / len(drawn)
            edge = 1.01 / len(drawn)
            assert (drawn >= part.quantile((there - edge).clamp(min=0))).all()
            assert (drawn <= part.quantile((there + edge).clamp(max=1))).all()
    assert (t <= p.at_most(u)).all() and not hasattr(p, "quantile")


@given(PARTS, st.floats(0.1, 0.9))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_mirrors_and_mixtures_by_their_definitions(first, share):
    t = torch.rand(99, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    mirror = Mirrored(first)
    torch.testing.assert_close(mirror.pdf(t), first.pdf(1 - t))
    torch.testing.assert_close(mirror.draw(BULK), 1 - first.draw(1 - BULK))
    mixed = Mixture(first, mirror, share)
    torch.testing.assert_close(mixed.pdf(t), share * first.pdf(t) + (1 - share) * mirror.pdf(t))
    low, high = mixed.support
    assert low <= float(mixed.draw(BULK).min()) and float(mixed.draw(BULK).max()) <= high


@given(PARTS)
@settings(max_examples=30, deadline=None, derandomize=True)
def test_no_draw_is_beyond_the_rates_that_draws_to_and_from_there_can_reach(p):
    upper = torch.linspace(0.05, 1, 20, dtype=DOUBLE)
    for mixed in (p, Mirrored(p), Mixture(Uniform(), p, 0.1)):
        for stop in upper:
            u = torch.linspace(0, 1, 41, dtype=DOUBLE) * stop
            assert float(mixed.draw(u).max()) <= float(mixed.at_most(stop)) + 1e-15
            u = stop + (1 - stop) * torch.linspace(0, 1, 41, dtype=DOUBLE)
            assert float(mixed.draw(u).min()) >= float(mixed.at_least(stop)) - 1e-15
