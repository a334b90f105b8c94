"""The transfer matrix where its signs are known."""

import numpy as np
import pytest
import torch

from unmask.analyze.learnability.transfer import (
    Start,
    Transfer,
    bin_edges,
    mean_and_stderr,
    transfer_matrix,
)
from unmask.data.blocks import Blocks
from unmask.model.config import ModelConfig
from unmask.model.transformer import Transformer
from unmask.train.config import TrainConfig
from unmask.train.optim import build_optimizers, optimizer_tensors

V, L = 8, 16
CONFIG = TrainConfig(batch_size=16, optimizer="adamw", precision="fp32", grad_clip=1.0)


def counting(n: int) -> Blocks:
    """Blocks that count upwards modulo V: any visible token tells all others."""
    starts = np.arange(n)[:, None] % V
    return Blocks((starts + np.arange(L)[None, :]) % V, None, n * L, n * L)


def start_of(model: Transformer, step: int = 0) -> Start:
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    return Start(weights, {}, step, seed=3)


def network() -> Transformer:
    return Transformer(ModelConfig(layers=1, width=32, heads=2), V + 1, [V], seed=1)


def matrix(model: Transformer, start: Start, rate: float, **changes: int) -> Transfer:
    options = {"bins": 4, "draws": 1, "steps": 6, "restarts": 2} | changes
    return transfer_matrix(
        model, start, counting(64), counting(16), torch.arange(16), ranges=bin_edges(4),
        config=CONFIG, learning_rate=rate, mask_id=V, **options,
    )  # fmt: skip


def test_no_learning_rate_no_transfer() -> None:
    model = network()
    found = matrix(model, start_of(model), 0.0)
    assert torch.equal(found.change, torch.zeros(4, 2, 4).double())
    assert torch.equal(found.nelbo_change, torch.zeros(4, 2).double())


@pytest.mark.parametrize("steps", [30, pytest.param(40, marks=pytest.mark.slow)])
def test_training_in_a_bin_lowers_that_bin_and_the_start_comes_back(steps: int) -> None:
    model = network()
    start = start_of(model)
    found = matrix(model, start, 0.01, steps=steps)
    own = found.change.diagonal(dim1=0, dim2=2)  # (restarts, bins)
    assert (own < -0.05).all(), own
    for name, value in model.state_dict().items():
        assert torch.equal(value, start.weights[name])
    mean, error = mean_and_stderr(found.change)
    assert mean.shape == (4, 4) and (error > 0).all()
    assert float(mean[1, 2]) == pytest.approx(float(found.change[1, :, 2].mean()))
    few, again = (matrix(model, start, 0.01, steps=2) for _ in range(2))
    assert torch.equal(again.change, few.change)  # the saved state was not trained away


def test_what_one_range_of_rates_alone_can_teach() -> None:
    """Independent tokens: only frequencies can be learnt, and every rate teaches every other."""
    generator = np.random.default_rng(0)
    skewed = generator.choice(V, size=(64, L), p=[0.65] + [0.05] * 7)
    blocks = Blocks(skewed, None, skewed.size, skewed.size)
    model = network()
    found = transfer_matrix(
        model, start_of(model), blocks, blocks, torch.arange(32), ranges=[(0.5, 1.0), (0.9, 1.0)],
        bins=2, draws=2, config=CONFIG, learning_rate=0.01, steps=20, restarts=2, mask_id=V,
    )  # fmt: skip
    assert (found.change < -0.3).all(), found.change


def test_the_optimisers_state_counts() -> None:
    """A state with a large squared average makes the same steps smaller."""
    model = network()
    optimizers = build_optimizers(model, CONFIG)
    for p in model.parameters():
        p.grad = torch.full_like(p, 100.0)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    for optimizer in optimizers:
        optimizer.step()
    state = {k: v.clone() for k, v in optimizer_tensors(optimizers, model).items()}
    for name, value in state.items():
        if name.endswith("|exp_avg"):
            value.zero_()
    fresh = matrix(model, Start(weights, {}, 0, 3), 0.01)
    slowed = matrix(model, Start(weights, state, 0, 3), 0.01)
    assert float(slowed.change.abs().sum()) < 0.2 * float(fresh.change.abs().sum())
    model.load_state_dict(weights)
