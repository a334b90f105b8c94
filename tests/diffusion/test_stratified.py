"""One draw in each stratum, dealt out so that every part of a batch spans them all."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.diffusion.time import alternating_strata, stratified, stratify

SIZES = [1, 2, 3, 7, 8, 30, 32, 64, 100, 128, 256, 510, 512, 1000]
LAST_OFFSET = 1 - 2.0**-53


def assert_one_in_each_stratum(u, n):
    k = torch.arange(n).double()
    u = u.sort().values
    assert (u >= k / n).all() and (u < (k + 1) / n).all()


@pytest.mark.parametrize("n", SIZES)
def test_exactly_one_draw_in_each_stratum(n):
    u = stratified(n, generator=torch.Generator().manual_seed(n))
    assert u.shape == (n,) and u.dtype == torch.float64
    assert_one_in_each_stratum(u, n)
    assert (u.diff() > 0).all()


@given(n=st.integers(1, 5000), offset=st.sampled_from([0.0, 2.0**-53, 0.5, LAST_OFFSET]))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_no_offset_leaves_its_stratum(n, offset):
    u = stratify(torch.arange(n), torch.full((n,), offset, dtype=torch.float64), n)
    assert_one_in_each_stratum(u, n)
    torch.testing.assert_close(u, (torch.arange(n).double() + offset) / n, rtol=1e-14, atol=0)


def test_offsets_are_uniform_inside_the_strata():
    draws = torch.stack(
        [stratified(4, generator=torch.Generator().manual_seed(s)) for s in range(2000)]
    )
    inside = draws * 4 - torch.arange(4)
    torch.testing.assert_close(
        inside.mean(dim=0), torch.full((4,), 0.5).double(), rtol=0, atol=5 * 12**-0.5 / 2000**0.5
    )
    correlation = torch.corrcoef(inside.T) - torch.eye(4)
    assert correlation.abs().max() < 5 / 2000**0.5


@pytest.mark.parametrize("n", SIZES)
def test_alternating_strata_are_a_permutation(n):
    assert torch.equal(alternating_strata(n).sort().values, torch.arange(n))


def worst_discrepancy(order):
    """Largest |members of a run below a stratum - their fair share|, over all runs and strata."""
    n = len(order)
    below = (order[:, None] < torch.arange(n + 1)[None, :]).double()  # sample i, strata < k
    excess = torch.cat([torch.zeros(1, n + 1), (below - torch.arange(n + 1) / n).cumsum(dim=0)])
    # A run from i to j has excess[j] - excess[i]: the widest gap is over all runs at once.
    return float((excess.max(dim=0).values - excess.min(dim=0).values).max())


@pytest.mark.parametrize("n", SIZES)
def test_any_run_of_samples_spans_the_strata_evenly(n):
    """In every run of m consecutive samples, |#(strata < k) - m k/n| < 4, for every k."""
    assert worst_discrepancy(alternating_strata(n)) < 4


def test_a_random_order_would_not_be_that_even():
    order = torch.randperm(512, generator=torch.Generator().manual_seed(0))
    assert worst_discrepancy(order) > 15
