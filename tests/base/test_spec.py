"""``NAME:key=value`` text, and dataclasses built from it."""

import re
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.base.errors import UserError, unknown
from unmask.base.spec import build, format_spec, parse_spec

WORD = st.text(st.characters(exclude_characters=":,=", categories=["L", "N", "P"]), min_size=1)


@dataclass(frozen=True)
class Thing:
    size: int
    share: float = 0.5
    name: str = "x"
    on: bool = False
    limit: int | None = None
    derived: int = field(default=0, init=False)


def test_parse():
    assert parse_spec("bell") == ("bell", {})
    assert parse_spec("bell:") == ("bell", {})
    assert parse_spec("bell:mean=0.4, std=0.15,") == ("bell", {"mean": "0.4", "std": "0.15"})
    assert parse_spec("hf:path=a:b=c") == ("hf", {"path": "a:b=c"})


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("a:b", "'b' is not of the form"), ("a:=1", "'=1'"), ("a:b=1,b=2", "'b' is given twice")],
)
def test_malformed_specs_quote_the_whole_and_the_part(text, complaint):
    with pytest.raises(UserError, match=complaint) as error:
        parse_spec(text)
    assert repr(text) in str(error.value)


@settings(deadline=None, derandomize=True)
@given(WORD, st.dictionaries(WORD, WORD))
def test_format_is_the_inverse_of_parse(name, options):
    assert parse_spec(format_spec(name, options)) == (name, options)


def test_format_writes_booleans_in_lower_case():
    assert format_spec("a", {"b": True, "c": 0.1}) == "a:b=true,c=0.1"
    assert format_spec("a", {}) == "a"


def test_build_converts_by_the_fields_types():
    text = {"size": "3", "share": "1e-3", "name": "7", "on": "True", "limit": "12"}
    assert build(Thing, text, "thing") == Thing(3, 1e-3, "7", True, 12)
    assert build(Thing, {"size": "3"}, "thing") == Thing(3)


@settings(deadline=None, derandomize=True)
@given(st.floats(allow_nan=False))
def test_floats_survive_exactly(value):
    _, options = parse_spec(format_spec("a", {"size": 1, "share": value}))
    assert build(Thing, options, "thing").share == value


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "thing needs size"),
        ({"size": "3.5"}, "thing: size must be a whole number, not '3.5'"),
        ({"size": "3", "share": "x"}, "thing: share must be a number, not 'x'"),
        ({"size": "3", "on": "1"}, "thing: on must be true or false, not '1'"),
        ({"size": "3", "limit": "many"}, "thing: limit must be a whole number, not 'many'"),
        ({"siz": "3"}, "unknown option of thing 'siz' (did you mean 'size'?); valid: limit, name"),
        ({"size": "3", "derived": "1"}, "unknown option of thing 'derived'"),
    ],
)
def test_build_errors(options, complaint):
    with pytest.raises(UserError, match=re.escape(complaint)):
        build(Thing, options, "thing")


def test_unknown_lists_the_valid_names_in_order():
    assert str(unknown("pet", "dgo", ["dog", "cat"])) == (
        "unknown pet 'dgo' (did you mean 'dog'?); valid: cat, dog"
    )
    assert "did you mean" not in str(unknown("pet", "zzz", ["dog", "cat"]))
