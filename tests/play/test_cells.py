"""Tokens as pieces of text: together they are the text, and no character is cut."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.data.tokenizers import ByteTokenizer, hub_tokenizer
from unmask.play.cells import cells, token_name
from unmask.play.trace import Reveal

tokenizer_of = cache(lambda folder: hub_tokenizer(str(folder)))
PIECES = st.lists(
    st.sampled_from(["░", "the", " cat", " ", "\n", "\t", "漢字", "é", "🙂", "<b>", "&"])
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd░"), max_size=3)
).map("".join)


def row_of(tokenizer, text: str) -> list[int]:
    """Token ids of a text in which ░ is a mask."""
    first, *others = text.split("░")
    row = tokenizer.encode([first])[0].tolist()
    for part in others:
        row += [tokenizer.mask_id, *tokenizer.encode_inside(part)]
    return row


def came(ids: list[int]) -> dict[int, Reveal]:
    return {i: Reveal(i + 1, i, token, 0.5, ()) for i, token in enumerate(ids)}


@given(PIECES)
def test_cells_of_bytes_are_characters(text: str) -> None:
    tokenizer = ByteTokenizer()
    found = list(cells(tokenizer, row_of(tokenizer, text), {}))
    assert [cell.text for cell in found] == list(text)
    assert [cell.hidden for cell in found] == [sign == "░" for sign in text]


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@given(text=PIECES)
def test_cells_make_up_the_text(kind: str, text: str, tokenizer_folders) -> None:
    tokenizer = tokenizer_of(tokenizer_folders[kind])
    ids = row_of(tokenizer, text)
    found = list(cells(tokenizer, ids, came(ids)))
    assert "".join(cell.text for cell in found) == tokenizer.decode(ids)
    assert sum(cell.hidden for cell in found) == text.count("░")
    noted = [reveal.token for cell in found for reveal in cell.came]
    assert noted == [i for i in ids if i != tokenizer.mask_id]


def test_a_character_of_several_tokens_is_one_cell() -> None:
    tokenizer = ByteTokenizer()
    ids = row_of(tokenizer, "a漢░")
    marks = came(ids)
    marks[2] = Reveal(9, 2, ids[2], 0.1, ())
    a, sign, mask = cells(tokenizer, ids, marks)
    assert (a.text, a.step) == ("a", 1)
    assert (sign.text, sign.step, sign.certainty, len(sign.came)) == ("漢", 9, 0.1, 3)
    assert mask.hidden and mask.came == ()


def test_parts_of_characters_are_cells_by_themselves() -> None:
    tokenizer = ByteTokenizer()
    ids = [0xE6, 0xBC, tokenizer.mask_id, 0xA2, ord("x"), tokenizer.separator_id]
    found = [cell.text for cell in cells(tokenizer, ids, {})]
    assert found == ["\ufffd", "\ufffd", "░", "\ufffd", "x", "\n¶\n"]


def test_names_of_tokens_show_what_cannot_be_seen() -> None:
    tokenizer = ByteTokenizer()
    named = [token_name(tokenizer, i) for i in (ord("a"), 32, 10, 9, 0xE6, 256)]
    assert named == ["a", "␣", "↵", "⇥", "token 230", "¶"]
