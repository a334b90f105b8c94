"""Fits of the mask rates' distribution to what the training steps meet."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from unmask.diffusion.adaptive import (
    BINS,
    FITS,
    Histogram,
    RateStatistics,
    Seen,
    least_varying_window,
    root_mean_square,
    where_it_falls,
)
from unmask.diffusion.time import TruncatedNormal, Uniform
from unmask.recipe.parse import RECIPES, parse_recipe

MIDDLES = (torch.arange(BINS) + 0.5) / BINS
L = 1000
TOKENS = torch.full((BINS,), L)


def seen_with(nats_per_masked: list[Tensor]) -> RateStatistics:
    """Statistics after steps with one noiseless sequence in every bin, whose c(t) is given."""
    seen = RateStatistics()
    for c in nats_per_masked:
        seen.add(Seen(MIDDLES, c * MIDDLES * L, MIDDLES * L, TOKENS))
    return seen.at(0)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=30))
def test_a_histogram_is_a_density_and_its_quantile_inverts_it(heights: list[float]) -> None:
    p = torch.tensor(heights, dtype=torch.float64)
    p /= p.sum()
    histogram = Histogram(tuple(p.tolist()))
    u = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    t = histogram.quantile(u)
    n = len(heights)
    grid = (torch.arange(100 * n, dtype=torch.float64) + 0.5) / (100 * n)
    assert float(histogram.pdf(grid).mean()) == pytest.approx(1, abs=1e-9)
    assert (t.diff() >= 0).all() and t.min() > 0 and t.max() <= 1
    drawn = torch.histc(t, n, 0, 1) / len(t)
    assert drawn == pytest.approx(p, abs=2e-4)


def test_the_averages_are_those_of_the_last_steps() -> None:
    old, new = torch.full((BINS,), 5.0), torch.full((BINS,), 3.0)
    seen = seen_with([old] * 2000 + [new] * 60)
    slow = 3 + 2 * 0.99**60
    recent = 3 + 2 * 0.97**60
    assert seen["nats"] / seen["masked"] == pytest.approx(torch.full((BINS,), slow).double(), 1e-4)
    ratio = seen["recent_nats"] / seen["recent_masked"]
    assert ratio == pytest.approx(torch.full((BINS,), recent).double(), 1e-4)
    assert seen["loss"] / seen["sequences"] == pytest.approx(seen["nats"] / seen["masked"], 1e-4)


def test_rates_belong_to_their_bin_and_the_last_bin_is_closed() -> None:
    seen = RateStatistics()
    t, ones = torch.tensor([1.0, 0.5, 1e-6]), torch.ones(3)
    seen.add(Seen(t, ones, ones, torch.full((3,), 10)))
    seen.at(0)
    assert seen["sequences"].nonzero().flatten().tolist() == [0, BINS // 2, BINS - 1]
    assert seen["loss"][BINS - 1] == pytest.approx(0.1)


@pytest.mark.parametrize("name", sorted(FITS.keys() - {"none"}))
def test_nothing_is_fitted_before_every_rate_was_met(name: str) -> None:
    seen = RateStatistics()
    assert FITS[name](seen) is None
    t = MIDDLES[:-1].repeat(200)
    seen.add(Seen(t, t, t * 10, torch.full_like(t, 10)))
    seen.at(0)
    assert FITS[name](seen) is None


def test_what_is_added_counts_from_the_next_refit() -> None:
    seen = seen_with([torch.ones(BINS)] * 200)
    before = root_mean_square(seen)
    for _ in range(50):
        seen.add(Seen(MIDDLES, MIDDLES**2 * L, MIDDLES * L, TOKENS))
    assert root_mean_square(seen) == before
    seen.at(0)
    assert root_mean_square(seen) != before


def test_the_window_is_where_the_loss_varies_least() -> None:
    """Noiseless: the variance within a window is that of c(t), which is flat from 0.3 to 0.8."""
    c = torch.where((MIDDLES > 0.3) & (MIDDLES < 0.8), 2.0, 2 + 10 * (MIDDLES - 0.55).abs())
    assert least_varying_window(seen_with([c] * 300)) == Uniform(0.3, 0.8)


def test_the_window_counts_the_noise_of_the_losses() -> None:
    generator = torch.Generator().manual_seed(0)
    seen = RateStatistics()
    for _ in range(300):
        noise = torch.randn(BINS, generator=generator) * (1 - MIDDLES)
        seen.add(Seen(MIDDLES, (3 + noise) * MIDDLES * L, MIDDLES * L, TOKENS))
    seen.at(0)
    assert least_varying_window(seen) == Uniform(0.5, 1.0)


def test_the_root_mean_square_density_has_the_least_variance() -> None:
    """Second moment of the importance-weighted loss, E_p[(l/p)^2], against uniform and others."""
    c = 1 + 4 * MIDDLES**2
    histogram = root_mean_square(seen_with([c] * 300))
    assert histogram is not None
    p = torch.tensor(histogram.probabilities) * BINS
    assert p == pytest.approx(c / c.mean(), rel=1e-4)

    def moment(p: Tensor) -> float:
        return float((c**2 / p).mean())

    assert moment(p) < 0.9 * moment(torch.ones(BINS))
    tilted = p * (1 + 0.1 * torch.linspace(-1, 1, BINS))
    assert moment(p) < moment(tilted / tilted.mean())


def test_the_bell_follows_the_rates_that_improve() -> None:
    """c(t) falls like a bell around 0.3; the adaptive bell has its centre and half its spread."""
    shape = torch.exp(-(((MIDDLES - 0.3) / 0.12) ** 2) / 2)
    bell = where_it_falls(seen_with([8 - 0.002 * step * shape for step in range(1000)]))
    assert isinstance(bell, TruncatedNormal)
    assert bell.mean == pytest.approx(0.3, abs=0.01)
    assert bell.std == pytest.approx(0.06, abs=0.005)
    nowhere = where_it_falls(seen_with([8 + 0.002 * step * (1 + shape) for step in range(1000)]))
    assert nowhere is None


@pytest.mark.parametrize("name", [name for name, r in RECIPES.items() if r.observers()])
def test_a_fitted_recipe_leaves_no_rate_out(name: str) -> None:
    recipe = RECIPES[name]
    seen = seen_with([8 - 0.002 * step * MIDDLES for step in range(1000)])
    ((now, _, _),) = recipe.divided(501, 1000, {"rates": seen})
    ((before, _, _),) = recipe.divided(501, 1000)
    assert now != before
    grid = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    density = now.density(grid)
    assert density is not None
    assert float(density.min()) >= 0.1 - 1e-12
    assert float(density.mean()) == pytest.approx(1, abs=0.01)


def test_weights_of_fitted_rates_are_unbiased_for_the_bound() -> None:
    """E_p[w(t) t c(t)] is the integral of c, whatever was fitted."""
    seen = seen_with([1 + 4 * MIDDLES**2] * 300)
    ((now, _, _),) = RECIPES["p-pots"].divided(501, 1000, {"rates": seen})
    t = now.rates((torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000).double()
    c = 2 + torch.sin(5 * t)
    exact = 2 + (1 - torch.cos(torch.tensor(5.0))) / 5
    assert float((now.weights(t) * t * c).mean()) == pytest.approx(float(exact), rel=1e-3)


def test_fit_is_an_option_of_every_recipe_and_only_what_fits_observes() -> None:
    recipe = parse_recipe("bell:fit=progress")
    assert parse_recipe(recipe.spec()) == recipe
    assert set(recipe.observers()) == {"rates"}
    observing = {name for name, r in RECIPES.items() if r.observers()}
    assert observing == {"clipped", "p-pots", "adaptive"}
