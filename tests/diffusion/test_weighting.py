"""Weightings: unbiased for the NELBO whatever p, on one scale, and log V before training."""

import math

import numpy as np
import pytest
import torch
from enumeration import all_masks, bin_chance, nelbo_weights
from scipy import integrate

from unmask.data.blocks import Blocks
from unmask.model.config import ModelConfig
from unmask.model.transformer import Transformer
from unmask.recipe.parse import RECIPES, parse_recipe
from unmask.train.batch import draw_batches
from unmask.train.config import TrainConfig, ValidationConfig
from unmask.train.step import batch_loss
from unmask.train.validation import validate

L = 4
UNBIASED = [
    "standard",
    "iid",
    "bell-weighted",
    "bell-weighted:mean=0.2,std=0.3",
    "flat:time=logit-normal,loc=-0.5,scale=1.5,weight=importance",
    "flat:time=beta,alpha=1.2,beta=1.5,weight=importance",
    "flat:time=beta,alpha=0.7,beta=0.6,weight=importance",
    "standard:weight=importance",
]
SCALED = [
    *(name for name in RECIPES if name != "ar"),
    "flat:low=0.3,high=0.8",
    "standard:low=0.45,high=0.55",
    "bell-weighted:low=0.2,high=0.7",
    "flat:time=beta,alpha=3,beta=2",
    "flat:time=logit-normal,loc=1,scale=0.5",
]


def losses(spec, ce, n):
    """n draws of w(t) (1/L) sum of ce over the masked positions; ce (2^L, L) depends on the mask.

    Rates and noise are independent, so that the draws' spread is an honest standard error.
    """
    objective, generator = parse_recipe(spec).main, torch.Generator().manual_seed(0)
    t = objective.time.draw(torch.rand(n, generator=generator, dtype=torch.float64))
    u = torch.rand(n, L, generator=generator, dtype=torch.float64)
    mask = objective.masking.mask(t, u, None)
    number = (mask * 2 ** torch.arange(L - 1, -1, -1)).sum(dim=1)
    return objective.weights(t) * (ce[number] * mask).sum(dim=1) / L


def assert_mean(draws, exact, precision):
    stderr = float(draws.std()) / len(draws) ** 0.5
    assert stderr < precision * exact
    assert abs(float(draws.mean()) - exact) < 3.5 * stderr


@pytest.fixture(scope="module")
def ce():
    """Cross-entropies that differ from mask to mask and rise steeply with the masked share."""
    generator = torch.Generator().manual_seed(1)
    rising = (all_masks(L).sum(dim=1, keepdim=True).double() / L) ** 2
    return 5 * rising + torch.rand(2**L, L, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("spec", UNBIASED)
def test_weighted_loss_is_unbiased_for_the_nelbo(spec, ce):
    exact = float(nelbo_weights(L) @ (ce * all_masks(L)).sum(dim=1))
    assert_mean(losses(spec, ce, 300_000), exact, precision=0.02)


@pytest.mark.parametrize("spec", ["flat", "bell", "flat:time=beta,alpha=2,beta=1"])
def test_flat_weight_is_another_objective(spec, ce):
    """The draws above can tell a loss that is not the NELBO."""
    exact = float(nelbo_weights(L) @ (ce * all_masks(L)).sum(dim=1))
    draws = losses(spec, ce, 300_000)
    assert abs(float(draws.mean()) - exact) > 20 * float(draws.std()) / 300_000**0.5


def test_on_part_of_the_rates_importance_averages_c_over_that_part(ce):
    """U[0.3, 0.8]: the mean of (1/t) (1/L) sum CE over that window."""
    edges = np.linspace(0.3, 0.8, 501)
    middles = (edges[1:] + edges[:-1]) / 2
    nats = (ce * all_masks(L)).sum(dim=1)
    parts = [
        float(bin_chance(L, a, b) @ nats) / t / L
        for a, b, t in zip(edges[:-1], edges[1:], middles, strict=True)
    ]
    assert_mean(
        losses("flat:low=0.3,high=0.8,weight=importance", ce, 300_000),
        sum(parts) / 0.5,
        precision=0.005,
    )


@pytest.mark.parametrize("spec", SCALED)
def test_mean_of_weight_times_t_is_one(spec):
    """E_p[w(t) t] = 1 by quadrature of the density: every recipe's loss starts at log V."""
    objective = parse_recipe(spec).main

    def integrand(t):
        point = torch.tensor([t], dtype=torch.float64)
        return float(objective.density(point) * objective.weights(point)) * t

    low, high = objective.time.draw(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
    value, _ = integrate.quad(integrand, low, high, epsabs=1e-9, limit=200)
    assert value == pytest.approx(1, abs=1e-5)


def test_every_token_of_the_next_token_objective_counts_one():
    assert (RECIPES["ar"].main.weights(torch.ones(3)) == 1).all()


@pytest.mark.parametrize("spec", ["standard", "flat", "bell", "bell-weighted"])
def test_weights_keep_shape_and_dtype(spec):
    t = torch.rand(5, 1).clamp_min(0.1)
    weights = parse_recipe(spec).main.weights(t)
    assert weights.shape == t.shape and weights.dtype == t.dtype
    assert (weights > 0).all()


@pytest.mark.parametrize(
    "spec",
    [
        "flat:low=0.3,high=0.8,weight=importance",
        "bell-weighted:low=0.1,high=0.8",
        "flat:time=logit-normal,scale=5,weight=importance",
    ],
)
def test_weights_are_finite_for_every_rate_that_can_be_drawn(spec):
    objective = parse_recipe(spec).main
    u = torch.tensor([2.0**-53, 2.0**-30, 1 - 2.0**-30, 1 - 2.0**-53], dtype=torch.float64)
    assert objective.weights(objective.rates(u)).isfinite().all()


PREDICTABLE = 10
BLOCKS = Blocks(np.random.default_rng(0).integers(PREDICTABLE, size=(512, 20)), None, 0, 0)


def untrained(causal):
    config = ModelConfig(layers=1, width=16, heads=2)
    never = [PREDICTABLE, PREDICTABLE + 1]
    return Transformer(config, PREDICTABLE + 2, never, causal=causal, start=PREDICTABLE)


@pytest.mark.parametrize("causal", [False, True])
def test_untrained_network_scores_log_v_in_the_bound(causal):
    """Exactly log V, with nothing uncertain about it, and in every bin of c(t)."""
    bound = validate(untrained(causal), BLOCKS, ValidationConfig(blocks=512, draws=16), PREDICTABLE)
    log_v = math.log(PREDICTABLE)
    assert bound.nelbo == pytest.approx(log_v, rel=1e-6)
    assert bound.stderr < 1e-6
    if not causal:
        assert bound.c_t == pytest.approx([log_v] * 10, rel=1e-6)


MIXED = ["bell:next-token=0.3", "bell:standard=0.2,next-token=0.4", "narrow:mix=steps,uniform=0.5"]


QUICKLY = ("bell-weighted", "fast", MIXED[1])
SLOWLY = [
    pytest.param(spec, marks=pytest.mark.slow)
    for spec in (*RECIPES, "flat:low=0.3,high=0.8", "bell:mean=0.2,std=0.1", *MIXED)
    if spec not in QUICKLY
]


@pytest.mark.parametrize("spec", [*QUICKLY, *SLOWLY])
def test_untrained_network_s_training_loss_is_log_v_in_expectation(spec):
    recipe = parse_recipe(spec)
    loss = batch_loss(untrained(recipe.causal), PREDICTABLE)
    config, device = TrainConfig(batch_size=128, steps=100), torch.device("cpu")
    values = []
    with torch.no_grad():
        for step in range(100):
            batches = draw_batches(recipe, BLOCKS, config, seed=0, step=step, device=device)
            values.append(sum(float(loss(batch).value) for batch in batches))
    stderr = np.std(values, ddof=1) / len(values) ** 0.5
    assert stderr < 0.03 * math.log(PREDICTABLE)
    assert np.mean(values) == pytest.approx(math.log(PREDICTABLE), abs=3.5 * stderr + 1e-5)
