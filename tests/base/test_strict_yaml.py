"""YAML: scalars mean what they look like, nothing is dropped, and what is written is read back."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.base.errors import UserError
from unmask.base.strict_yaml import read_yaml, write_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("null", None), ("~", None), ("", None), ("Null", None)),
        *(("true", True), ("False", False), ("TRUE", True)),
        *(("12", 12), ("-3", -3), ("+3", 3), ("0", 0)),
        *(("1e-3", 1e-3), ("1.5E+3", 1500.0), (".5", 0.5), ("3.", 3.0), ("-0.25", -0.25)),
        # text, so that no field of numbers takes it
        *((text, text) for text in ("yes", "no", "on", "off", "y", "tRue")),
        *((text, text) for text in ("010", "0x10", "0o10", "0b1", "1_000", "1:30", "٣", "²")),
        *((text, text) for text in (".inf", "-.inf", ".nan", "inf", "nan", "1e999", "2020-01-01")),
        *((f"'{text}'", text) for text in ("1", "true", "null", "1e-3")),
        ('"1"', "1"),
        ("|\n  1", "1"),
    ],
)
def test_scalars(text, value):
    found, _ = read_yaml(f"key: {text}")
    assert found == {"key": value} and type(found["key"]) is type(value)


def test_the_lines_of_keys():
    text = "seed: 1\n\n# a note\ntrain:\n  steps: 3\n  log_to: [a, {b: 1}]\n"
    values, lines = read_yaml(text)
    assert values == {"seed": 1, "train": {"steps": 3, "log_to": ["a", {"b": 1}]}}
    assert lines == {
        "seed": 1,
        "train": 4,
        "train.steps": 5,
        "train.log_to": 6,
        "train.log_to.1.b": 6,
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' is there twice"),
        ("x:\n  a: 1\n  a: 1", "line 3: the key 'x.a' is there twice"),
        ("a: &n 1", "line 1: anchors"),
        ("a: 1\nb: *n", "line 2: anchors"),
        ("a: !!int 3", "line 1: tags"),
        ("a: !!python/name:os.system", "line 1: tags"),
        ("a: [1\nb: 2", "line 2: expected"),
        ("a: b: c", "line 1: mapping values are not allowed here"),
        ("a: 1\n---\nb: 2", "line 2: but found another document"),
        ("? [a]\n: 1", "line 1: a key must be a word"),
        ("a: \x07", "not YAML: unacceptable character"),
        ("[" * 1000, "nested too deeply"),
        pytest.param("[" * 3000, "nested too deeply", marks=pytest.mark.slow),
        ("{a: " * 60 + "1" + "}" * 60, "nested too deeply"),
    ],
)
def test_what_is_refused_is_told_with_its_line(text, said):
    with pytest.raises(UserError) as caught:
        read_yaml(text)
    assert str(caught.value).startswith(said) or said in str(caught.value)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
    st.from_regex(r"[-+.0-9eEx_:]{1,6}", fullmatch=True),
    st.sampled_from(["yes", "null", "~", "<<", "=", "1e-3", "1e5", "1:30", "010", ".inf", "-"]),
)


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8),
        st.one_of(SCALARS, st.lists(SCALARS, max_size=3), st.dictionaries(st.text(), SCALARS)),
        max_size=4,
    )
)
def test_what_is_written_is_read_back(values):
    assert read_yaml(write_yaml(values))[0] == values


@given(st.text(max_size=60) | st.text("[]{}:,-?&*!|>'\"%@#\n\t ab10.", max_size=40))
def test_any_text_is_read_or_refused(text):
    try:
        values, lines = read_yaml(text)
    except UserError as error:
        assert len(str(error)) < 500
    else:
        assert all(line >= 1 for line in lines.values())
        assert not isinstance(values, float) or math.isfinite(values)
