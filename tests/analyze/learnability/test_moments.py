"""The nested estimators against every possible draw."""

import itertools
import math

import pytest
import torch

from unmask.analyze.learnability.gradients import Moments, jackknife, nested_moments


def moments_of(vectors: torch.Tensor) -> Moments:
    """Of (n, m, P) vectors."""
    sums = vectors.sum(dim=1)
    squares = vectors.square().sum(dim=(1, 2))
    return nested_moments(sums @ sums.T, squares, vectors.shape[1])


def test_unbiased_over_every_possible_draw() -> None:
    """Two blocks with two equally likely masks each; two blocks drawn, two masks drawn in each."""
    population = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(0)).double()
    draws = []
    for blocks in itertools.product(range(2), repeat=2):
        for masks in itertools.product(range(2), repeat=4):
            rows = [[population[b, m] for m in masks[2 * i : 2 * i + 2]]
                    for i, b in enumerate(blocks)]  # fmt: skip
            draws.append(moments_of(torch.stack([torch.stack(row) for row in rows])))
    assert len(draws) == 64
    mean = population.mean(dim=(0, 1))
    by_block = population.mean(dim=1)
    within = (population - by_block[:, None]).square().sum(-1).mean()
    between = (by_block - mean).square().sum(-1).mean()
    for name, truth in (
        ("squared_mean", mean.square().sum()),
        ("mask_variance", within),
        ("data_variance", between),
        ("variance", (population - mean).square().sum(-1).mean()),
    ):
        found = sum(getattr(d, name) for d in draws) / len(draws)
        assert found == pytest.approx(float(truth), rel=1e-9), name
    # The plug-in would not be: it overstates the squared mean.
    plug_in = [d.squared_mean + d.data_variance / 2 + d.mask_variance / 4 for d in draws]
    assert sum(plug_in) / 64 > 1.2 * float(mean.square().sum())


def test_the_jackknife_error_is_that_of_repeated_estimates() -> None:
    generator = torch.Generator().manual_seed(1)
    n, m, dims, repeats = 12, 3, 4, 400
    values, errors = [], []
    for _ in range(repeats):
        block = torch.randn(n, 1, dims, generator=generator).double()
        vectors = 1 + block + torch.randn(n, m, dims, generator=generator).double()
        sums, squares = vectors.sum(1), vectors.square().sum((1, 2))
        values.append(moments_of(vectors).squared_mean)
        errors.append(jackknife(lambda x: x.squared_mean, sums @ sums.T, squares, m))
    spread = torch.tensor(values).std()
    assert torch.tensor(values).mean() == pytest.approx(4, abs=4 * float(spread) / repeats**0.5)
    assert math.sqrt(sum(e * e for e in errors) / repeats) == pytest.approx(float(spread), rel=0.25)


def test_leaving_out_a_block_is_what_it_says() -> None:
    vectors = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(2)).double()
    sums, squares = vectors.sum(1), vectors.square().sum((1, 2))
    for name in ("squared_mean", "mask_variance", "data_variance"):
        left = [getattr(moments_of(vectors[[c for c in range(4) if c != b]]), name)
                for b in range(4)]  # fmt: skip
        by_hand = (3 / 4 * sum((v - sum(left) / 4) ** 2 for v in left)) ** 0.5
        error = jackknife(lambda m, n=name: getattr(m, n), sums @ sums.T, squares, 2)
        assert error == pytest.approx(by_hand)


def test_signal_to_noise() -> None:
    assert Moments(2.0, 3.0, 1.0).snr == 0.5
    assert math.isnan(Moments(0.0, 0.0, 0.0).snr)
    for n, m in ((1, 2), (2, 1)):
        with pytest.raises(ValueError, match="two blocks and two masks"):
            nested_moments(torch.ones(n, n), torch.ones(n), m)
