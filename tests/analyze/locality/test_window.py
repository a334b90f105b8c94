"""Windows around a target, by a model whose use of its context is known exactly."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unmask.analyze.locality.window import (
    WindowProfile,
    distance_holding,
    information_within,
    radii_for,
    visible_within,
    window_profile,
)
from unmask.data.blocks import Blocks
from unmask.model.head import Head

V, LENGTH, MASK = 16, 32, 16


class Copier(nn.Module):
    """Knows that the token ``far`` to the left is the target; without it, nothing."""

    causal = False

    def __init__(self, far: int) -> None:
        super().__init__()
        self.far, self.embedding, self.head = far, nn.Embedding(V + 1, 1), Head(V, V, ())
        # logits: 4 for the token copied, all equal for a mask
        self.head.weight = nn.Parameter(4 * torch.eye(V))

    def forward(
        self, x: Tensor, valid: Tensor | None = None, *, predicted: Tensor | None = None
    ) -> Tensor:
        source = torch.roll(x, self.far, dims=1)
        return nn.functional.one_hot(source, V + 1)[..., :V].float()


def test_the_radii() -> None:
    assert radii_for(128) == [0, 1, 2, 4, 8, 16, 32, 64, 128]
    assert radii_for(100) == [0, 1, 2, 4, 8, 16, 32, 64, 100]
    assert radii_for(2) == [0, 1, 2]


def test_what_is_visible() -> None:
    place = torch.tensor([2, 0])
    assert visible_within(place, 1, "both", 5).int().tolist() == [[0, 1, 0, 1, 0], [0, 1, 0, 0, 0]]
    assert visible_within(place, 2, "left", 5).int().tolist() == [[1, 1, 0, 0, 0], [0] * 5]
    assert visible_within(place, 9, "right", 5).int().tolist() == [[0, 0, 0, 1, 1], [0, 1, 1, 1, 1]]
    assert not visible_within(place, 0, "both", 5).any()


def profile_of(far: int) -> WindowProfile:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, V, (64, LENGTH))
    for i in range(far, LENGTH):
        tokens[:, i] = tokens[:, i - far]
    blocks = Blocks(tokens, None, tokens.size, tokens.size)
    return window_profile(Copier(far), blocks, torch.arange(64), MASK, batch_size=50)  # type: ignore[arg-type]


def test_the_information_appears_with_the_token_that_carries_it() -> None:
    profile = profile_of(far=3)
    sure = math.log(math.exp(4) + V - 1) - 4
    for side in ("both", "left"):
        for radius, ce in zip(profile.radii, profile.ce[side].mean(dim=0).tolist(), strict=True):
            assert ce == pytest.approx(sure if radius >= 3 else math.log(V), abs=1e-5)
    torch.testing.assert_close(profile.ce["right"], torch.full((64, 7), math.log(V)).double())
    gain, _ = information_within(profile, "both")
    assert float(gain[-1]) == pytest.approx(float(profile.unigram.mean()) - sure, abs=1e-5)


def test_distances_interpolate_and_have_an_error() -> None:
    held = distance_holding(profile_of(far=3), "both", 0.9)
    assert held is not None
    assert 2 < held[0] <= 4
    n = 200
    gain = torch.tensor([0.0, 0.5, 0.8, 1.0]).double() + torch.zeros(n, 1)
    even = WindowProfile([0, 1, 2, 4], {"both": -gain}, torch.zeros(n).double())
    found = distance_holding(even, "both", 0.5)
    assert found == (pytest.approx(1.0), pytest.approx(0.0, abs=1e-9))
    # 90% lies half way between r = 2 and 4, in log(1 + r)
    found = distance_holding(even, "both", 0.9)
    assert found is not None and found[0] == pytest.approx(math.sqrt(3 * 5) - 1)


def test_the_error_is_that_of_repeated_samples() -> None:
    """Jackknife against the spread over fresh samples of blocks."""
    generator = torch.Generator().manual_seed(0)
    shape = torch.tensor([0.0, 0.5, 0.8, 1.0]).double()

    def fresh() -> tuple[float, float]:
        gain = shape + 0.5 * torch.randn(100, 4, generator=generator, dtype=torch.float64)
        profile = WindowProfile([0, 1, 2, 4], {"both": -gain}, torch.zeros(100).double())
        found = distance_holding(profile, "both", 0.5)
        assert found is not None
        return found

    values, errors = torch.tensor([fresh() for _ in range(200)]).T
    assert float(errors.median()) == pytest.approx(float(values.std()), rel=0.3)


def test_a_model_that_learnt_nothing_has_no_distances() -> None:
    gain = torch.zeros(10, 3).double()
    profile = WindowProfile([0, 1, 2], {"both": -gain}, torch.full((10,), -0.1).double())
    assert distance_holding(profile, "both", 0.5) is None
