"""Speed-ups of synthetic curves whose ratio is known, and intervals that hold what they say."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from unmask.compare.statistics import (
    Curve,
    envelope,
    first_reach,
    level_at,
    paired_difference,
    ratio_spread,
    speed_up,
    spread,
    student_t,
)


def curve(rate: float, steps: int = 1000, every: int = 20, seconds_a_step: float = 0.5) -> Curve:
    """A run that falls as 9 / (1 + rate * step): twice the rate is twice as fast, everywhere."""
    x = list(range(0, steps + 1, every))
    return Curve(x, [s * seconds_a_step for s in x], [9 / (1 + rate * s) for s in x])


@pytest.mark.parametrize("factor", [1.0, 1.5, 2.0, 4.0])
@pytest.mark.parametrize("percent", [25, 50, 75, 100])
def test_a_known_ratio_is_found_at_every_level(factor: float, percent: float) -> None:
    level, ratios = speed_up([curve(0.01)], [curve(0.01 * factor)], percent)
    steps, seconds = ratios["steps"], ratios["seconds"]
    assert level == pytest.approx(9 / (1 + 0.01 * 10 * percent), rel=1e-3)
    assert steps.mean == pytest.approx(factor, rel=0.02)
    assert seconds.mean == pytest.approx(factor, rel=0.02)
    assert steps.low is None  # one seed, no interval


def test_seconds_count_what_a_step_costs() -> None:
    slow_steps = curve(0.02, seconds_a_step=1.5)
    ratios = speed_up([curve(0.01)], [slow_steps], 100)[1]
    steps, seconds = ratios["steps"], ratios["seconds"]
    assert steps.mean == pytest.approx(2, rel=0.02)
    assert seconds.mean == pytest.approx(2 / 3, rel=0.02)


def test_a_level_that_is_not_reached_is_never_extrapolated() -> None:
    steps = speed_up([curve(0.01)] * 2, [curve(0.02), curve(0.009)], 100)[1]["steps"]
    assert steps.mean is None and steps.low is None
    assert steps.known == 1 and len(steps.values) == 2


def test_the_baseline_against_itself_is_one() -> None:
    noisy = Curve([0, 10, 20, 30], [0, 1, 2, 3], [9.0, 5.0, 6.0, 4.0])
    for percent in (10, 25, 50, 66, 75, 100):
        assert speed_up([noisy], [noisy], percent)[1]["steps"].mean == pytest.approx(1)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_interval_covers_the_true_ratio_95_times_in_100(n: int) -> None:
    """Seeds whose log-ratio scatters normally about log 2."""
    chance, inside = random.Random(n), 0
    for _ in range(600):
        others = [curve(0.02 * math.exp(chance.gauss(0, 0.1))) for _ in range(n)]
        ratio = speed_up([curve(0.01)] * n, others, 50)[1]["steps"]
        assert ratio.low is not None and ratio.high is not None
        inside += ratio.low <= 2 * 1.003 and ratio.high >= 2 * 0.997  # of interpolation
    assert 0.92 <= inside / 600 <= 0.985


@given(st.integers(1, 200), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_student_t_is_scipys(degrees: int, confidence: float) -> None:
    wanted = stats.t.ppf((1 + confidence) / 2, degrees)
    assert student_t(degrees, confidence) == pytest.approx(wanted, rel=1e-9)


def test_a_spread_is_scipys_interval() -> None:
    values = [0.3, 0.7, 0.4, 1.1]
    found = spread(values)
    assert found.mean == pytest.approx(sum(values) / 4)
    wanted = stats.t.interval(0.95, 3, loc=sum(values) / 4, scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx(wanted)
    assert (spread([1.5]).mean, spread([1.5]).low) == (1.5, None)


def test_spreads() -> None:
    found = spread([1.0, 3.0])
    half = 12.706 * math.sqrt(2 / 2)
    assert found.mean == 2 and found.low == pytest.approx(2 - half, abs=1e-3)
    assert found.values == [1.0, 3.0] and spread([1.0]).low is None
    ratio = ratio_spread([2.0, 8.0])
    assert ratio.mean == pytest.approx(4) and ratio.low == pytest.approx(4 / 2**12.706, rel=1e-3)
    assert ratio_spread([2.0, None]).mean is None and ratio_spread([2.0, None]).known == 1


@given(st.lists(st.floats(0, 10), min_size=1, max_size=30))
def test_envelope_is_the_lowest_so_far(values: list[float]) -> None:
    lowest = envelope(values)
    assert lowest == [min(values[: i + 1]) for i in range(len(values))]


@given(st.lists(st.floats(0, 10), min_size=2, max_size=30), st.floats(0, 10))
def test_first_reach_is_the_first_point_at_or_below_the_level(
    values: list[float], level: float
) -> None:
    x = list(range(len(values)))
    where = first_reach(x, values, level)
    below = [i for i, v in enumerate(values) if v <= level]
    if not below:
        assert where is None
    else:
        assert where is not None
        assert max(0, below[0] - 1) <= where <= below[0]


def test_level_at_interpolates_the_envelope() -> None:
    run = Curve([0, 10, 20], [0, 1, 2], [8.0, 4.0, 5.0])
    assert level_at(run, 25) == pytest.approx(6.0)
    assert level_at(run, 100) == pytest.approx(4.0)


def test_paired_difference_sees_through_shared_noise() -> None:
    chance = random.Random(0)
    tokens = [chance.randrange(50, 100) for _ in range(400)]
    shared = [k * chance.gauss(5, 1) for k in tokens]
    a = [s + k * chance.gauss(0.03, 0.05) for s, k in zip(shared, tokens, strict=True)]
    value, error = paired_difference(a, shared, tokens)
    assert error == pytest.approx(0.05 / 400**0.5, rel=0.15)
    assert abs(value - 0.03) < 4 * error


def test_a_ratio_in_flops_is_there_where_all_counted_them() -> None:
    counted = Curve([0, 10, 20], [0, 1, 2], [8.0, 4.0, 2.0], [0, 100, 200])
    cheaper = Curve([0, 10, 20], [0, 1, 2], [8.0, 4.0, 2.0], [0, 40, 80])
    level, ratios = speed_up([counted], [cheaper], 100)
    assert level == 2.0 and ratios["flops"].mean == pytest.approx(2.5)
    assert ratios["steps"].mean == pytest.approx(1)
    uncounted = Curve(cheaper.steps, cheaper.seconds, cheaper.nelbo)
    assert "flops" not in speed_up([counted], [uncounted], 100)[1]
