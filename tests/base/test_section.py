"""Sections tell everything that is wrong with them in one message, with dotted names."""

import math
from typing import Self

import pytest
from pydantic import Field, field_validator, model_validator

from unmask.base.errors import UserError, unknown
from unmask.base.section import Section
from unmask.config import Config

FRUIT = ["apple", "pear"]


class Inner(Section):
    width: int = Field(8, gt=0)
    heads: int = 2
    fruit: str = "apple"

    @field_validator("fruit")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in FRUIT:
            raise unknown("fruit", name, FRUIT)
        return name

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.width % self.heads:
            raise ValueError("width must be divisible by heads")
        return self


class Middle(Section):
    inner: Inner = Inner()


class Outer(Section):
    seed: int = Field(0, ge=0)
    inner: Inner = Inner()
    middle: Middle = Middle()


def complaints(section=Outer, **values):
    with pytest.raises(UserError) as error:
        section(**values)
    return str(error.value)


def test_one_problem():
    message = "seed: input should be greater than or equal to 0, not -1"
    assert complaints(seed=-1) == message


def test_unknown_key_lists_the_valid_ones():
    assert (
        complaints(sed=1) == "unknown key 'sed' (did you mean 'seed'?); valid: inner, middle, seed"
    )


def test_all_problems_are_told_at_once_outer_and_nested():
    message = complaints(seed=-1, inner={"width": -1, "heads": "y"}, bar=1)
    for part in (
        "seed: input should be greater than or equal to 0, not -1",
        "inner.width: input should be greater than 0, not -1",
        "inner.heads: input should be a valid integer",
        "unknown key 'bar'; valid: inner, middle, seed",
    ):
        assert part in message
    assert message.count(", not ") == 3


@pytest.mark.parametrize("depth", ["inner", "middle.inner"])
def test_nested_fields_have_dotted_names(depth):
    def nest(values):
        return {"inner": values} if depth == "inner" else {"middle": {"inner": values}}

    positive = f"{depth}.width: input should be greater than 0, not -1"
    assert complaints(**nest({"width": -1})) == positive
    divisible = f"{depth}: width must be divisible by heads"
    assert complaints(**nest({"width": 9})) == divisible


def test_a_section_s_own_rule_is_told_as_it_is():
    assert complaints(Inner, width=9) == "width must be divisible by heads"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"inner": {"wdith": 1}},
            "unknown key 'inner.wdith' (did you mean 'width'?); valid: fruit, heads, width",
        ),
        (
            {"middle": {"inner": {"wdith": 1}}},
            "unknown key 'middle.inner.wdith' (did you mean 'width'?); valid: fruit, heads, width",
        ),
        (
            {"inner": {"fruit": "fig"}},
            "inner.fruit: unknown fruit 'fig'; valid: apple, pear",
        ),
        (
            {"inner": {"width": "a; b"}},
            "inner.width: input should be a valid integer, not 'a; b'",
        ),
    ],
    ids=["unknown key", "unknown key, deeper", "unknown value", "semicolon in the input"],
)
def test_sentences_with_a_semicolon_keep_their_names(values, message):
    assert complaints(**values) == message


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        (3, "inner: must hold keys and values, not 3"),
        ("x", "inner: must hold keys and values, not 'x'"),
        (None, "inner: holds nothing; give it keys and values, or leave it out"),
    ],
)
def test_not_a_mapping(inner, message):
    assert complaints(inner=inner) == message


class Typed(Section):
    whole: int = 0
    number: float = 0.0
    flag: bool = False
    text: str = ""


@pytest.mark.parametrize(
    "values",
    [
        *({"whole": wrong} for wrong in (True, False, 1.0, 1.5, "1", "", None, [1], {})),
        *({"number": wrong} for wrong in (True, "1e-3", math.nan, math.inf, -math.inf, 10**400)),
        *({"flag": wrong} for wrong in (0, 1, "true", "yes", None)),
        *({"text": wrong} for wrong in (1, 0.5, True, None, b"x", ["x"])),
    ],
    ids=repr,
)
def test_a_value_of_another_type_is_refused(values):
    (field,) = values
    assert complaints(Typed, **values).startswith(f"{field}: input should be a ")


def test_a_whole_number_is_a_number():
    assert Typed(number=3).number == 3.0


def test_an_endless_value_is_not_repeated_in_full():
    assert len(complaints(seed="9" * 5000)) < 200
    assert len(complaints(seed=-(10**5000))) < 200
    assert len(complaints(**{"x" * 5000: 1})) < 200


def test_sections_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Inner().width = 3


def test_the_real_configuration():
    message = complaints(
        Config, seed=-1, recipe="bell:std=x", model={"width": 30}, train={"steps": 0}
    )
    for part in (
        "seed: input should be greater than or equal to 0, not -1",
        "recipe: recipe 'bell': std must be a number, not 'x'",
        "model: width must be divisible by heads: 30 / 4 is not whole",
        "train.steps: input should be greater than or equal to 1, not 0",
    ):
        assert part in message
