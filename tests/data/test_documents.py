"""Held-out documents: a function of each document's own text."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.base.errors import UserError
from unmask.data.documents import Documents, digest, hold_out
from unmask.data.sources import open_source

TEXTS = [f"document number {number}" for number in range(2000)]


def split(texts: list[str], fraction: float) -> tuple[list[str], list[str]]:
    train, valid = hold_out(Documents("x", digest(texts), lambda: iter(texts)), fraction)
    return list(train), list(valid)


@pytest.mark.parametrize("fraction", [0.01, 0.05, 0.2, 0.5])
def test_disjoint_complete_and_of_the_right_size(fraction):
    train, valid = split(TEXTS, fraction)
    assert sorted(train + valid) == sorted(TEXTS)
    spread = (len(TEXTS) * fraction * (1 - fraction)) ** 0.5
    assert abs(len(valid) - fraction * len(TEXTS)) < 4 * spread


def test_order_within_a_side_is_the_corpus_order():
    train, valid = split(TEXTS, 0.1)
    assert train == [text for text in TEXTS if text in set(train)]
    assert valid == [text for text in TEXTS if text in set(valid)]


def test_deterministic():
    assert split(TEXTS, 0.1) == split(TEXTS, 0.1)


def test_independent_of_the_order_of_documents():
    shuffled = random.Random(0).sample(TEXTS, len(TEXTS))
    train, valid = split(shuffled, 0.1)
    assert set(valid) == set(split(TEXTS, 0.1)[1])
    assert set(train) == set(split(TEXTS, 0.1)[0])


def test_independent_of_the_names_of_files(tmp_path):
    sides = []
    for folder, names in (("a", range(40)), ("b", reversed(range(40)))):
        (tmp_path / folder).mkdir()
        for name, text in zip(names, TEXTS, strict=False):
            (tmp_path / folder / f"{name:02}.txt").write_text(text)
        source = open_source(str(tmp_path / folder)).train
        sides.append([set(side) for side in hold_out(source, 0.2)])
    assert sides[0] == sides[1]
    assert len(sides[0][1]) > 1


def test_more_documents_move_none():
    few, many = split(TEXTS[:500], 0.1), split(TEXTS, 0.1)
    assert set(few[0]) < set(many[0])
    assert set(few[1]) < set(many[1])


def test_larger_fraction_only_adds():
    assert set(split(TEXTS, 0.1)[1]) < set(split(TEXTS, 0.3)[1])


def test_identical_documents_are_on_one_side():
    texts = [text for text in TEXTS[:100] for _ in range(3)]
    train, valid = split(texts, 0.3)
    assert valid
    assert not set(train) & set(valid)
    assert all(valid.count(text) == 3 for text in valid)


@settings(derandomize=True, deadline=None)
@given(
    st.lists(st.text(min_size=1), min_size=2, max_size=6).filter(lambda texts: len(set(texts)) > 1),
    st.floats(1e-9, 0.5),
)
def test_each_side_has_a_document(texts, fraction):
    train, valid = split(texts, fraction)
    assert train
    assert valid
    assert not set(train) & set(valid)
    assert sorted(train + valid) == sorted(texts)


def test_identities_tell_the_splits_apart():
    documents = Documents("x", digest(TEXTS), lambda: iter(TEXTS))
    sides = [side for fraction in (0.1, 0.2) for side in hold_out(documents, fraction)]
    assert len({documents.identity, *(side.identity for side in sides)}) == 5
    assert [side.identity for side in hold_out(documents, 0.1)] == [s.identity for s in sides[:2]]


@pytest.mark.parametrize("texts", [["only"], ["only", "only", "only"]])
def test_one_distinct_document_cannot_be_split(texts):
    with pytest.raises(UserError) as caught:
        split(texts, 0.1)
    message = str(caught.value)
    assert "corpus.valid_source" in message
    assert "document=" in message


def test_no_document(tmp_path):
    with pytest.raises(UserError, match="x holds no text"):
        split(["", ""], 0.1)


def test_nothing_is_read_before_it_is_asked_for():
    def read():
        raise AssertionError

    documents = Documents("x", "id", read)
    train, _ = hold_out(documents, 0.1)
    with pytest.raises(AssertionError):
        next(iter(train))
