"""Mask runs: closed forms against enumeration and against the project's own masks."""

import itertools

import pytest
import torch
from scipy import stats

from unmask.analyze.locality.mask_runs import around, empirical, endless, in_block
from unmask.diffusion.masking import Bernoulli, FixedCount
from unmask.diffusion.noise import Stream, uniform


def enumerated(t: float, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """All masks of a tiny block, weighed by their chance; looked at token by token."""
    run, nearest = torch.zeros(2, length, dtype=torch.float64)
    for mask in itertools.product([False, True], repeat=length):
        chance = t ** sum(mask) * (1 - t) ** (length - sum(mask))
        for i in (i for i in range(length) if mask[i]):
            first, last = i, i
            while first > 0 and mask[first - 1]:
                first -= 1
            while last < length - 1 and mask[last + 1]:
                last += 1
            away = min((abs(i - j) for j in range(length) if not mask[j]), default=length)
            run[last - first] += chance
            nearest[away - 1] += chance
    return run / run.sum(), nearest / nearest.sum()


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("length", [1, 2, 3, 6, 9])
def test_the_closed_form_in_a_block_is_the_enumeration(t: float, length: int) -> None:
    found, (run, nearest) = in_block(t, length), enumerated(t, length)
    torch.testing.assert_close(found.run, run)
    torch.testing.assert_close(found.nearest, nearest)


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_a_long_block_is_a_text_without_ends(t: float) -> None:
    short, long = endless(t, 20), in_block(t, 1500)
    assert float(short.run.sum()) == pytest.approx(1)
    assert float(short.nearest.sum()) == pytest.approx(1)
    torch.testing.assert_close(short.run[:-1], long.run[:19], atol=5e-3, rtol=0)
    torch.testing.assert_close(short.nearest[:-1], long.nearest[:19], atol=5e-3, rtol=0)


def test_around_is_what_one_sees() -> None:
    mask = torch.tensor([[1, 1, 0, 1, 0, 0, 1, 1, 1], [1] * 9]).bool()
    run, nearest = around(mask)
    assert run[mask].tolist() == [2, 2, 1, 3, 3, 3, *[9] * 9]
    assert nearest[mask].tolist() == [2, 1, 1, 1, 2, 3, *[9] * 9]


@pytest.mark.parametrize("t", [0.3, 0.7])
def test_the_projects_own_masks_follow_it(t: float) -> None:
    """Chi-square, with one target a block, so that the counts are independent."""
    length, samples = 24, 20_000
    u = uniform(1, Stream.MASK_RUNS, 0, torch.arange(samples), length + 1)
    mask = Bernoulli().mask(torch.full((samples,), t), u[:, :length], None)
    target = (torch.arange(samples), (u[:, length] * length).long())
    for found, chances in zip(around(mask), vars(in_block(t, length)).values(), strict=True):
        counts = torch.bincount(found[target][mask[target]] - 1, minlength=length).double()
        wanted = chances * counts.sum()
        usual = wanted >= 5
        seen = torch.cat([counts[usual], counts[~usual].sum()[None]])
        goal = torch.cat([wanted[usual], wanted[~usual].sum()[None]])
        assert stats.chisquare(seen, goal).pvalue > 1e-3


def test_the_empirical_distribution_of_each_masking() -> None:
    for masking, tolerance in ((Bernoulli(), 0.02), (FixedCount(), 0.03)):
        found = empirical(0.5, 64, masking=masking, samples=2000, seed=0)
        expected = in_block(0.5, 64)
        assert float(found.run.sum()) == pytest.approx(1)
        assert float((found.run - expected.run).abs().max()) < tolerance
        assert float((found.nearest - expected.nearest).abs().max()) < tolerance
