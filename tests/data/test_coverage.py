"""What of a text its tokens do not hold: measured, told, refused."""

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from unmask.base.errors import UserError
from unmask.data.blocks import read_facts, write_blocks
from unmask.data.config import CorpusConfig
from unmask.data.coverage import CharacterCount, Coverage
from unmask.data.load import load_data
from unmask.data.tokenizers import ByteTokenizer, Tokenizer, hub_tokenizer, load_tokenizer

KNOWN = "the cat sat on a mat and saw one big dog"


def lost(tokenizer: Tokenizer, *texts: str) -> int:
    characters = CharacterCount()
    for text in texts:
        characters.add([text])
    return characters.lost_bytes(tokenizer)


def coverage(folder: Path, tokenizer: Tokenizer, *texts: str) -> Coverage:
    write_blocks(folder, texts, tokenizer, 8, "cover")
    facts = read_facts(folder)
    assert facts is not None
    return facts.coverage


class Dropper(ByteTokenizer):
    """Knows some characters and leaves out the others, without a word."""

    def __init__(self, known: str, unknown: str = "") -> None:
        self.known, self.unknown = known, unknown
        self.unknown_ids = (255,) if unknown else ()

    def encode(self, texts):
        def one(text):
            return [255 if c in self.unknown else ord(c) for c in text if c in self.known]

        return [np.array(one(text), dtype=np.int64) for text in texts]


@given(st.text(), st.sets(st.characters(max_codepoint=254)))
def test_lost_bytes_are_those_of_the_characters_without_token(text, known):
    wanted = sum(len(c.encode()) for c in text if c not in known and not c.isspace())
    assert lost(Dropper("".join(known)), text) == wanted
    assert lost(Dropper("".join(known)), *text) == wanted


@given(st.lists(st.text()))
def test_bytes_lose_nothing(texts):
    assert lost(ByteTokenizer(), *texts) == 0


def test_an_unknown_token_is_not_a_lost_character():
    known = "".join(map(chr, range(128)))
    assert lost(Dropper(known, "zq"), "a zebra", "quiz") == 0


@pytest.mark.parametrize("kind", ["gpt2", "llama", "t5", "wordpiece", "dropping"])
def test_real_tokenizers(kind, tokenizer_folders, tmp_path):
    tokenizer = hub_tokenizer(str(tokenizer_folders[kind]))
    found = coverage(tmp_path, tokenizer, KNOWN, "漢字", "Zoë 🙂")
    assert coverage(tmp_path, tokenizer, KNOWN) == Coverage()
    if kind in ("gpt2", "llama"):
        assert found == Coverage()
    elif kind == "dropping":  # 漢字, Z, ë and 🙂
        assert found == Coverage(13 / (len(KNOWN) + 6 + 9), 0.0)
    else:
        assert found.lost == 0 and 0 < found.unknown < 0.5


def test_what_a_normaliser_strips_is_lost_only_if_it_changes_nothing(tokenizer_folders):
    wordpiece = hub_tokenizer(str(tokenizer_folders["wordpiece"]))
    assert lost(wordpiece, "naïve CAFÉ, the cat\t") == 0  # other letters, but letters
    assert lost(wordpiece, "the ca\u0301t\u0000") == 3  # an accent of its own, a control character


def test_our_own_bpe_loses_nothing(tmp_path):
    bpe = load_tokenizer("bpe:270", [KNOWN * 9], "identity", tmp_path / "cache")
    (tmp_path / "blocks").mkdir()
    assert coverage(tmp_path / "blocks", bpe, KNOWN, "漢字 🙂 \x00 e\u0301") == Coverage()


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Coverage(), None),
        (Coverage(0.001, 0.001), None),
        (Coverage(0.002, 0), "drops 0.20% of the bytes"),
        (Coverage(0, 0.03), "turns text into 3.00% unknown tokens"),
        (Coverage(0.5, 0.5), "lower limit"),
    ],
)
def test_what_is_notable_is_told(found, said):
    warning = found.warning("a text")
    assert (warning is None) == (said is None) == (not found.notable)
    assert found.bits(1.25) == ("1.2500" if said is None else "≥ 1.2500")
    if said is not None:
        assert warning is not None and said in warning and warning.startswith("a text: ")


@pytest.mark.parametrize("found", [Coverage(0.51), Coverage(0, 0.51)])
def test_what_is_mostly_lost_is_refused(found):
    with pytest.raises(UserError, match=r"a text: .*51\.00%.* too little is left to measure"):
        found.warning("a text")


def corpus(folder: Path, train: str, valid: str) -> tuple[Path, Path]:
    for name, text in (("train.txt", train), ("valid.txt", valid)):
        (folder / name).write_text(text, encoding="utf-8")
    return folder / "train.txt", folder / "valid.txt"


def test_loading_tells_of_each_split(tokenizer_folders, tmp_path):
    train, valid = corpus(tmp_path, KNOWN * 20 + "漢", KNOWN * 20)
    config = CorpusConfig(
        source=str(train),
        valid_source=str(valid),
        tokenizer=str(tokenizer_folders["dropping"]),
        block_size=16,
    )
    for _ in range(2):  # from the cache as well
        out = io.StringIO()
        data = load_data(config, tmp_path / "cache", Console(file=out, width=40))
        assert (
            "warning: the training text: the tokenizer drops 0.37% of the bytes" in out.getvalue()
        )
        assert out.getvalue().count("warning: ") == 1  # not of the validation text
        assert data.facts["train"]["lost_bytes"] == 3 and data.facts["valid"]["lost_bytes"] == 0
        assert data.train.coverage.notable and not data.valid.coverage.notable
    for splits in (("漢字" * 50, KNOWN), (KNOWN, "漢字" * 50)):
        corpus(tmp_path, *splits)
        with pytest.raises(UserError, match=r"drops 100\.00% of the bytes"):
            load_data(config, tmp_path / "cache")


def test_bits_per_byte_of_a_text_that_is_lost_in_part(tokenizer_folders, tmp_path, unmask, small):
    train, valid = corpus(tmp_path, (KNOWN + "\n") * 40, (KNOWN + " 漢\n") * 10)
    options = [
        *small,
        *("--corpus.source", train, "--corpus.valid-source", valid),
        *("--corpus.tokenizer", tokenizer_folders["dropping"], "--corpus.block-size", 8),
        *("--train.steps", 1, "--validation.blocks", 2),
    ]
    status, text = unmask("train", "--run", tmp_path / "run", *options)
    assert status == 0 and "warning: the validation text: the tokenizer drops" in text
    assert "≥ " in text and "bits/byte" in text
    status, text = unmask("evaluate", tmp_path / "run")
    assert status == 0 and "≥ " in text and "warning: " in text
    status, text = unmask("evaluate", tmp_path / "run", "--json")
    (line,) = (line for line in text.splitlines() if line.startswith("{"))
    found = json.loads(line)
    assert found["lost_share"] == pytest.approx(3 / (len(KNOWN) + 4))
    assert found["unknown_share"] == 0 and math.isfinite(found["bits_per_byte"])
    (tmp_path / "chinese.txt").write_text("漢字" * 60, encoding="utf-8")
    status, text = unmask("evaluate", tmp_path / "run", "--corpus.source", tmp_path / "chinese.txt")
    assert status == 2 and "too little is left to measure" in text
    status, text = unmask("train", "--run", tmp_path / "no", *options, "--corpus.source",
                          tmp_path / "chinese.txt")  # fmt: skip
    assert status == 2 and "the training text" in text and not (tmp_path / "no").exists()
