"""Gradient signal of a tiny network against the enumeration of all blocks and masks."""

import itertools

import numpy as np
import pytest
import torch

from unmask.analyze.learnability.gradients import (
    ALL,
    PARAMETER_GROUPS,
    WEIGHTS,
    gradient_signal,
    group_of,
)
from unmask.data.blocks import Blocks
from unmask.model.config import ModelConfig
from unmask.model.transformer import Transformer

V, L = 3, 4
TOKENS = np.array([[0, 1, 2, 0], [2, 2, 1, 0], [1, 0, 0, 1]])
LOW, HIGH = 0.25, 0.5


def network() -> Transformer:
    """A real network with an undeserved opinion; id V is its mask token."""
    model = Transformer(ModelConfig(layers=1, width=8, heads=2), V + 1, [V], seed=1)
    generator = torch.Generator().manual_seed(2)
    for name, p in model.named_parameters():
        if name in ("embedding.weight", "head.weight"):
            p.data = torch.randn(p.shape, generator=generator)
    return model


def enumerated(model: Transformer) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Weighting -> group -> exact (|E g|^2, variance over masks, variance over blocks)."""
    masks = torch.tensor(list(itertools.product([False, True], repeat=L)))
    k = masks.sum(dim=1)
    t = LOW + (HIGH - LOW) * (torch.arange(20_000).double() + 0.5) / 20_000
    chance = t[:, None] ** k * (1 - t[:, None]) ** (L - k)  # (t, masks)
    names = [name for name, _ in model.named_parameters()]
    gradients = torch.zeros(len(TOKENS), len(masks), sum(p.numel() for p in model.parameters()))
    for b, tokens in enumerate(torch.from_numpy(TOKENS)):
        for m, mask in enumerate(masks):
            logits = model.head(model(tokens.masked_fill(mask, V)[None])[0])
            ce = -logits.log_softmax(-1)[torch.arange(L), tokens]
            model.zero_grad()
            (ce[mask].sum() / L).backward()
            parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
            gradients[b, m] = torch.cat([part.flatten() for part in parts])
    sizes = [p.numel() for p in model.parameters()]
    owner = [g for name, size in zip(names, sizes, strict=True) for g in [group_of(name)] * size]
    found: dict[str, dict[str, tuple[float, float, float]]] = {}
    for weighting, w in (("flat", torch.ones_like(t)), ("1/t", 1 / t)):
        first = (w[:, None] * chance).mean(0)  # E[w; mask]
        second = (w[:, None] ** 2 * chance).mean(0)
        found[weighting] = {}
        for group in PARAMETER_GROUPS:
            g = gradients.double()[:, :, [group in (ALL, o) for o in owner]]
            by_block = (first[None, :, None] * g).sum(1)
            mean = by_block.mean(0)
            within = ((second * g.square().sum(-1)).sum(1) - by_block.square().sum(-1)).mean()
            between = (by_block - mean).square().sum(-1).mean()
            found[weighting][group] = (float(mean.square().sum()), float(within), float(between))
    return found


@pytest.mark.parametrize("n", [100, pytest.param(500, marks=pytest.mark.slow)])
def test_signal_and_noise_match_the_enumeration_of_all_masks_and_blocks(n: int) -> None:
    model = network()
    blocks = Blocks(TOKENS, None, TOKENS.size, TOKENS.size)
    found = gradient_signal(
        model, blocks, low=LOW, high=HIGH, n_blocks=n, n_masks=3, mask_id=V, seed=5
    )
    assert all(p.grad is None for p in model.parameters())
    exact = enumerated(model)
    for weighting in WEIGHTS:
        for group in PARAMETER_GROUPS:
            signal, (squared, within, between) = found[weighting][group], exact[weighting][group]
            error = signal.squared_mean_stderr
            assert error < 0.25 * squared * (500 / n) ** 0.5
            assert abs(signal.moments.squared_mean - squared) < 4 * error, (weighting, group)
            if n == 500:
                assert signal.moments.mask_variance == pytest.approx(within, rel=0.12)
                assert signal.moments.data_variance == pytest.approx(between, rel=0.3)
            snr = squared / (within + between)
            assert abs(signal.moments.snr - snr) < 4 * signal.snr_stderr
    # All parameters together are the sum of the groups.
    for name in ("squared_mean", "mask_variance", "data_variance"):
        flat = {g: getattr(s.moments, name) for g, s in found["flat"].items()}
        assert flat.pop(ALL) == pytest.approx(sum(flat.values()), rel=1e-5)


def test_every_parameter_has_a_group() -> None:
    model = network()
    groups = {name: group_of(name) for name, _ in model.named_parameters()}
    assert set(groups.values()) | {ALL} == set(PARAMETER_GROUPS)
    assert groups["blocks.0.attention.q_norm.weight"] == "norms"
    assert groups["blocks.0.attention.q.weight"] == "attention"
    assert groups["blocks.0.mlp.down.weight"] == "mlp"


def test_padding_is_neither_masked_nor_seen() -> None:
    """Whatever stands in the padding, the gradients are the same."""
    model, lengths = network(), np.array([3, 3, 2], dtype=np.int32)
    values = []
    for filler in (0, 2):
        tokens = TOKENS.copy()
        tokens[np.arange(L)[None, :] >= lengths[:, None]] = filler
        blocks = Blocks(tokens, lengths, 8, 8)
        found = gradient_signal(model, blocks, low=0.5, high=1.0, n_blocks=4, n_masks=2, mask_id=V)
        values.append(found["flat"][ALL].moments)
    assert values[0].squared_mean == pytest.approx(values[1].squared_mean, rel=1e-5)
    assert values[0].mask_variance == pytest.approx(values[1].mask_variance, rel=1e-5)
