"""The batch of a step is a function of (seed, step); its parts' gradients add up to its own."""

import numpy as np
import pytest
import torch

from unmask.data import Blocks
from unmask.model import ModelConfig, Transformer
from unmask.recipe import RECIPES
from unmask.train.batch import batch_loss, draw_batch

CPU = torch.device("cpu")
MASK = 10


def blocks(padded: bool) -> Blocks:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, MASK, (50, 12)).astype(np.uint16)
    lengths = rng.integers(3, 13, 50).astype(np.int32) if padded else None
    return Blocks(tokens, lengths, tokens.size, tokens.size)


def gradients(recipe: str, padded: bool, parts: int) -> tuple[float, list[torch.Tensor]]:
    named = RECIPES[recipe]
    config = ModelConfig(layers=1, width=16, heads=2)
    model = Transformer(config, MASK + 1, (MASK,), causal=named.causal)
    with torch.no_grad():  # the head starts at zero, which would leave the rest without gradient
        model.head.weight.normal_(generator=torch.Generator().manual_seed(0))
    batch = draw_batch(named, blocks(padded), seed=3, step=7, batch_size=32, device=CPU)
    total = 0.0
    for part in batch.split(parts):
        loss, _ = batch_loss(model, model.head, named, part, MASK)
        loss.backward()
        total += float(loss.detach())
    return total, [p.grad for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("parts", [4, 5, 32])
def test_micro_batches_add_up_to_the_batch(recipe: str, padded: bool, parts: int) -> None:
    loss, whole = gradients(recipe, padded, 1)
    split_loss, split = gradients(recipe, padded, parts)
    assert split_loss == pytest.approx(loss, rel=1e-5)
    for a, b in zip(whole, split, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_the_batch_depends_on_seed_and_step_alone() -> None:
    def batch(seed: int, step: int) -> list[torch.Tensor]:
        torch.manual_seed(step * 31 + seed)  # global state must not matter
        drawn = draw_batch(RECIPES["bell"], blocks(False), seed, step, 16, CPU)
        return [drawn.x, drawn.t, drawn.u]

    same = zip(batch(1, 5), batch(1, 5), strict=True)
    assert all(torch.equal(a, b) for a, b in same)
    for other in ((2, 5), (1, 6)):
        assert not any(torch.equal(a, b) for a, b in zip(batch(1, 5), batch(*other), strict=True))


def test_padding_is_neither_masked_nor_counted() -> None:
    batch = draw_batch(RECIPES["flat"], blocks(True), 0, 0, 40, CPU)
    assert batch.valid is not None
    assert batch.n_tokens == int(batch.valid.sum())
    corrupted = RECIPES["flat"].corrupt(batch.x, batch.t, batch.u, valid=batch.valid, mask_id=MASK)
    assert not (corrupted.predicted & ~batch.valid).any()
