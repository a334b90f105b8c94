"""Numbers as text are plain ASCII decimals, everywhere; seeds fit into int64."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.base.errors import UserError
from unmask.base.numbers import LARGEST_SEED, check_seed, decimal_number, whole_number

NO_NUMBER = [
    "",
    " 1",
    "1 ",
    "1\n",
    "1_000",
    "010",
    "00",
    "²",
    "٣",
    "1.0.0",
    "0x1",
    "--1",
    "a",
    "1,5",
]


@pytest.mark.parametrize("text", [*NO_NUMBER, "1.0", "1e3", "9" * 5000])
def test_no_whole_number(text):
    assert whole_number(text) is None


@pytest.mark.parametrize("text", [*NO_NUMBER, "nan", "inf", "-inf", "infinity", "1e999", "e5", "."])
def test_no_decimal_number(text):
    assert decimal_number(text) is None


@given(st.integers(-(10**999), 10**999))
def test_whole_numbers(value):
    assert whole_number(str(value)) == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_decimal_numbers(value):
    assert decimal_number(repr(value)) == value and decimal_number(f"{value:e}") is not None


@given(st.text(max_size=8))
def test_any_text_is_a_finite_number_or_none(text):
    value = decimal_number(text)
    assert value is None or math.isfinite(value)
    whole = whole_number(text)
    assert whole is None or whole == value


def test_seeds():
    check_seed(0), check_seed(LARGEST_SEED), check_seed(-LARGEST_SEED - 1)
    for seed in (LARGEST_SEED + 1, -LARGEST_SEED - 2, 10**5000):
        with pytest.raises(UserError, match="evaluation seed must be at most 9223372036854775807"):
            check_seed(seed, "evaluation seed")
