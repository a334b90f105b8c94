"""c(t) in bins against the enumeration of all masks."""

import itertools

import numpy as np
import pytest
import torch

from unmask.analyze.learnability.curves import (
    area,
    heaviest_range,
    lowest_curve,
    reducible,
    shares,
)
from unmask.analyze.learnability.transfer import bin_edges, binned_cross_entropy
from unmask.data.blocks import Blocks
from unmask.model.config import ModelConfig
from unmask.model.transformer import Transformer

V, L = 3, 4


def network() -> Transformer:
    model = Transformer(ModelConfig(layers=1, width=8, heads=2), V + 1, [V], seed=1)
    generator = torch.Generator().manual_seed(2)
    model.head.weight.data = torch.randn(model.head.weight.shape, generator=generator)
    return model


@torch.no_grad()
def test_bins_match_the_enumeration() -> None:
    """With as many bins as tokens, bin j masks exactly j + 1; their mean is the exact NELBO."""
    model = network()
    tokens = torch.tensor([[0, 1, 2, 0], [2, 2, 1, 0]])
    per_size: list[list[float]] = [[] for _ in range(L)]
    for mask in itertools.product([False, True], repeat=L):
        where = torch.tensor(mask)
        if not where.any():
            continue
        log_p = model.head(model(tokens.masked_fill(where, V))).log_softmax(-1)
        ce = -log_p.gather(-1, tokens[..., None]).squeeze(-1)[:, where].mean(dim=1)
        per_size[sum(mask) - 1] += ce.tolist()
    exact = torch.tensor([sum(v) / len(v) for v in per_size])
    n = 600  # the same two blocks over and over, each time with masks of its own
    blocks = Blocks(np.tile(tokens.numpy(), (n, 1)), None, 0, 0)
    found = binned_cross_entropy(model, blocks, torch.arange(2 * n), bins=L, draws=2, mask_id=V)
    spread = max(torch.tensor(v).std() for v in per_size)
    assert (found - exact).abs().max() < 4 * float(spread) / (4 * n) ** 0.5
    two = binned_cross_entropy(model, blocks, torch.arange(2 * n), bins=2, draws=2, mask_id=V)
    assert float(two[0]) == pytest.approx(float(exact[:2].mean()), abs=0.03)


def test_the_same_masks_each_time_and_bins_are_where_they_should_be() -> None:
    model = network()
    blocks = Blocks(np.array([[0, 1, 2, 0], [2, 2, 1, 0]]), np.array([4, 3], np.int32), 0, 0)
    chosen = torch.arange(2)
    a, b = (
        binned_cross_entropy(model, blocks, chosen, bins=3, draws=2, mask_id=V) for _ in range(2)
    )
    assert torch.equal(a, b) and a.isfinite().all()
    assert bin_edges(2) == [(0.0, 0.5), (0.5, 1.0)]


def test_reducible_part_and_where_it_sits() -> None:
    curves = [[1.0, 2.0, 4.0, 5.0], [0.5, 2.5, 3.0, 5.0]]
    lowest = lowest_curve(curves)
    assert lowest == [0.5, 2.0, 3.0, 5.0]
    left = reducible(curves[0], lowest)
    assert left == [0.5, 0.0, 1.0, 0.0] and area(left) == 0.375
    parts = shares(left)
    assert parts == pytest.approx([1 / 3, 0, 2 / 3, 0])
    assert heaviest_range(parts, 0.5) == (2, 2)
    assert heaviest_range(parts, 0.9) == (0, 2)
    assert shares([0.0, 0.0]) is None
