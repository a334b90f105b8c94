"""The information that reaches a masked token, by enumeration of masks, and the bells."""

import itertools
import math

import pytest
import torch

from unmask import UserError, parse_recipe
from unmask.analyze.locality.reach import measured_bell, profile
from unmask.analyze.locality.window import WindowProfile
from unmask.data.information import Locality
from unmask.recipe.auto import evidence, information_by_distance, nearest, recommended_bell

T = torch.tensor([0.05, 0.3, 0.5, 0.8, 0.95], dtype=torch.float64)


def locality(nats: list[float], entropy: float = 2.0, error: float = 1e-4) -> Locality:
    n = len(nats)
    return Locality([*range(1, n + 1)], nats, [error] * n, nats, entropy, 10_000, 32)


def window(adds: list[float]) -> WindowProfile:
    """Blocks of 4 whose windows of 0, 1, 2, 4 add those nats."""
    gain = torch.tensor([0.0, *adds]).double().cumsum(0).expand(5, 4)
    return WindowProfile([0, 1, 2, 4], {"both": -gain}, torch.zeros(5).double())


def moments(found: Locality, t: float, rule: str) -> tuple[float, float]:
    """Mean and variance of the information one target receives, over all masks."""
    n, entropy = len(found.nats), found.entropy
    first = second = 0.0
    for visible in itertools.product([False, True], repeat=2 * n):
        chance = math.prod(1 - t if v else t for v in visible)
        left, right = visible[:n], visible[n:]
        value = 0.0
        if rule == "nearest":
            for side in (left, right):
                value += next((i for i, v in zip(found.nats, side, strict=True) if v), 0.0)
        else:
            shares = [i / entropy for i in found.nats] * 2
            left_over = math.prod(1 - s for s, v in zip(shares, visible, strict=True) if v)
            value = entropy * (1 - left_over)
        first, second = first + chance * value, second + chance * value**2
    return first, second - first**2


@pytest.mark.parametrize(("model", "rule"), [(nearest, "nearest"), (evidence, "evidence")])
def test_the_closed_forms_are_the_enumeration(model, rule: str) -> None:
    found = locality([0.8, 0.3, 0.2, 0.05])
    expected = [moments(found, t, rule)[0] for t in T.tolist()]
    torch.testing.assert_close(model(found, T), torch.tensor(expected, dtype=torch.float64))


def test_the_bell_is_the_maximum_and_the_spread_by_chance() -> None:
    found = locality([0.8, 0.3, 0.2, 0.05])
    bell = recommended_bell(found)
    t = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    assert bell.mean == pytest.approx(float(t[(t * evidence(found, t)).argmax()]), abs=0.006)
    step = 1e-4
    ends = [moments(found, bell.mean + s, "evidence")[0] for s in (-step, step)]
    slope = (ends[1] - ends[0]) / (2 * step)
    spread = math.sqrt(moments(found, bell.mean, "evidence")[1])
    assert bell.std == pytest.approx(spread / -slope, rel=1e-4)
    assert parse_recipe(bell.recipe).name == "bell"


def test_a_weak_profile_has_its_bell_in_the_middle_and_more_neighbours_narrow_it() -> None:
    """With shares near 0 evidence adds up: R is (1 - t) c, the width sqrt(t (1 - t) / (2 D))."""
    for n in (1, 4, 16):
        bell = recommended_bell(locality([1e-3] * n, error=1e-6))
        assert bell.mean == pytest.approx(0.5, abs=0.003)
        assert bell.std == pytest.approx(math.sqrt(0.25 / (2 * n)), rel=0.01)


def test_information_within_three_errors_of_zero_is_none() -> None:
    found = locality([0.5, 0.01, -0.02], error=0.01)
    assert information_by_distance(found).tolist() == [0.5, 0.0, 0.0]
    with pytest.raises(UserError, match="no bell"):
        recommended_bell(locality([0.001, -0.002], error=0.01))


def test_the_profile_model_is_whole_without_masks_and_empty_with_all() -> None:
    found = locality([0.8, 0.3, 0.2, 0.05])
    adds = [0.9, 0.3, 0.2]
    ends = torch.tensor([1e-9, 1 - 1e-9], dtype=torch.float64)
    low, high = profile(found, window(adds), ends).tolist()
    assert low == pytest.approx(sum(adds), abs=1e-6)
    assert high == pytest.approx(0, abs=1e-6)


def test_the_profile_model_is_the_enumeration() -> None:
    """The k-th visible token on a side, at d, is worth half of add[k] I(d)/I(k)."""
    nats, adds = [0.8, 0.3, 0.2, 0.05], [0.9, 0.3, 0.1, 0.1]
    expected = []
    for t in T.tolist():
        total = 0.0
        for visible in itertools.product([False, True], repeat=4):
            chance = math.prod(1 - t if v else t for v in visible)
            seen = [d for d in range(4) if visible[d]]
            total += chance * sum(adds[k] * nats[d] / nats[k] for k, d in enumerate(seen))
        expected.append(total)
    found = profile(locality(nats), window([0.9, 0.3, 0.2]), T)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_the_measured_bell() -> None:
    """c(t) = H - (1 - t): t R(t) is t (1 - t); one distance tells all, so two tokens do."""
    t = (torch.arange(10) + 0.5) / 10
    c_t = (2.0 - (1 - t)).tolist()
    bell = measured_bell(c_t, 2.0, window([1.0, 0.0, 0.0]))
    assert bell is not None
    assert bell.mean == pytest.approx(0.5, abs=1e-5)
    assert bell.std == pytest.approx(math.sqrt(0.25 / 2), rel=1e-4)
    assert measured_bell([None, *c_t[1:]], 2.0, window([1.0, 0.0, 0.0])) is None
    assert measured_bell([3.0] * 10, 2.0, window([1.0, 0.0, 0.0])) is None
