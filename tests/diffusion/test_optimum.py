"""Every recipe's exact expected loss has one and the same optimum: the true conditionals.

A table with one logit vector for each (masked text, position) represents any joint over tiny
texts exactly, as a time-agnostic network of infinite capacity would.
"""

from types import SimpleNamespace

import pytest
import torch
from enumeration import (
    all_masks,
    all_sequences,
    conditionals,
    nelbo_weights,
    random_joint,
)

from unmask.diffusion.objective import predicted_loss
from unmask.recipe.parse import parse_recipe

V, L = 3, 3
MASK = V
RECIPES = [
    "standard",
    "flat",
    "bell",
    "bell-weighted",
    "bell:mean=0.4,std=0.15",
    "flat:time=beta,alpha=2,beta=5",
    "standard:low=0.45,high=0.55",  # part of the rates, but every mask still has a chance
]
JOINT = random_joint(V, L)
MASKED_TEXTS = all_sequences(V + 1, L)


def row_of(x):
    """Row of each masked text in `MASKED_TEXTS`."""
    return (x * (V + 1) ** torch.arange(L - 1, -1, -1)).sum(dim=-1)


def chances(objective):
    """Integral over t of p(t) w(t) t^k (1 - t)^(L - k) for each mask of k tokens."""
    low, high = objective.time.draw(torch.tensor([0.0, 1.0], dtype=torch.float64))
    n = 20_000
    t = low + (high - low) * (torch.arange(n) + 0.5).double() / n
    weight = objective.density(t) * objective.weights(t) * (high - low) / n
    k = all_masks(L).sum(dim=1, keepdim=True)
    return (weight * t**k * (1 - t) ** (L - k)).sum(dim=1)


def expected_loss(table, mask_weights, objective):
    """Sum over texts and masks of P(text) * the mask's weight * (1/L) sum of CE, as trained."""
    texts, masks = all_sequences(V, L), all_masks(L)
    x = texts.repeat_interleave(len(masks), dim=0)
    noise = 1 - masks.repeat(len(texts), 1).double()  # 0 where masked
    half = torch.full((len(x),), 0.5, dtype=torch.float64)
    mask = objective.masking.mask(half, noise, None)
    weights = (JOINT[:, None] * mask_weights[None, :]).flatten() / L
    identity = SimpleNamespace(weight=torch.eye(V, dtype=table.dtype), bias=None)
    return predicted_loss(table[row_of(objective.hide(x, mask, MASK))], x, mask, weights, identity)


def nelbo(table):
    return expected_loss(table, nelbo_weights(L) * L, parse_recipe("standard").main)


def optimum():
    """The true conditionals as logits: (4^L, L, V)."""
    return conditionals(JOINT, MASKED_TEXTS, V, MASK).log().clamp_min(-50)


def test_quadrature_of_standard_is_the_closed_form():
    torch.testing.assert_close(
        chances(parse_recipe("standard").main)[1:], L * nelbo_weights(L)[1:], rtol=1e-4, atol=0
    )


def test_the_optimum_s_nelbo_is_the_entropy_of_the_joint():
    """The chain rule in random order: the bound is tight for the true conditionals."""
    entropy = -float((JOINT * JOINT.log()).sum())
    assert float(nelbo(optimum())) * L == pytest.approx(entropy, rel=1e-6)


@pytest.mark.parametrize("spec", RECIPES)
def test_true_conditionals_are_stationary(spec):
    objective = parse_recipe(spec).main
    table = optimum().requires_grad_()
    expected_loss(table, chances(objective), objective).backward()
    moved = (optimum() + 0.1 * torch.randn(table.shape, generator=seeded(0))).requires_grad_()
    expected_loss(moved, chances(objective), objective).backward()
    assert float(table.grad.abs().max()) < 1e-6
    assert float(moved.grad.abs().max()) > 1e-4


@pytest.mark.parametrize("spec", RECIPES)
def test_optimisation_from_anywhere_reaches_the_one_optimum(spec):
    objective = parse_recipe(spec).main
    table = torch.randn(len(MASKED_TEXTS), L, V, generator=seeded(1)).double().requires_grad_()
    start = float(nelbo(table.detach()))
    weights = chances(objective)
    optimizer = torch.optim.LBFGS([table], max_iter=400, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = expected_loss(table, weights, objective)
        loss.backward()
        return loss

    optimizer.step(closure)
    best = float(nelbo(optimum()))
    assert start > best + 0.1
    assert best - 1e-6 < float(nelbo(table.detach())) < best + 1e-4


def test_a_table_too_small_for_the_joint_does_depend_on_the_recipe():
    """One logit vector for all masked texts: with finite capacity the weighting matters."""

    def best_shared(spec):
        objective = parse_recipe(spec).main
        weights = chances(objective)
        shared = torch.zeros(2, V, dtype=torch.float64, requires_grad=True)
        crowded = (MASKED_TEXTS[:, :2] == 0).all(dim=1).long()
        optimizer = torch.optim.LBFGS(
            [shared],
            max_iter=100,
            tolerance_grad=1e-12,
            tolerance_change=1e-14,
            line_search_fn="strong_wolfe",
        )

        def closure():
            optimizer.zero_grad()
            table = shared[crowded][:, None, :].expand(-1, L, -1)
            loss = expected_loss(table, weights, objective)
            loss.backward()
            return loss

        optimizer.step(closure)
        assert shared.grad.abs().max() < 1e-6
        return shared.detach().softmax(-1)

    low, high = best_shared("bell:mean=0.1,std=0.05"), best_shared("bell:mean=0.9,std=0.05")
    assert (low - high).abs().max() > 1e-3


def seeded(seed):
    return torch.Generator().manual_seed(seed)
