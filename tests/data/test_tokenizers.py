"""Tokenizers: nothing is lost, and no text becomes a special token."""

import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.base.errors import UserError
from unmask.data.tokenizers import (
    Tokenizer,
    hub_tokenizer,
    load_tokenizer,
    saved_tokenizer,
    text_after,
)

TEXTS = [
    f"the cat {number} sat on a mat, and the dog saw the cat; {number % 7} times é 漢字 🙂\n"
    for number in range(200)
]
NAMES = ["<|mask|>", "<|sep|>", "[MASK]", "[SEP]", "[CLS]", "[PAD]", "<|endoftext|>"]
SPECIAL = [*NAMES, "".join(NAMES), f"a {NAMES[0]} b{NAMES[1]}", f"{NAMES[2]} [ MASK ]", "<|mask|"]


def load(spec: str, folder: Path, texts: Iterable[str] = TEXTS) -> Tokenizer:
    """Make a tokenizer with ``folder`` as its cache."""
    folder.mkdir(exist_ok=True)
    return load_tokenizer(spec, texts, "identity", folder)


@pytest.fixture(scope="module")
def bpe(tmp_path_factory) -> Tokenizer:
    return load("bpe:320", tmp_path_factory.mktemp("bpe"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> Path:
    """A folder with a WordPiece tokenizer like BERT's, of 40 entries or so."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = ["the", "cat", "sat", "on", "mat", "mask", "sep", "[", "]", "s", "##s", "##a"]
    vocab = {token: number for number, token in enumerate([*names, *words])}
    backend = Backend(models.WordPiece(vocab, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    backend.enable_truncation(4)  # neither must be done to a corpus
    backend.enable_padding(length=64, pad_id=0, pad_token="[PAD]")
    folder = tmp_path_factory.mktemp("bert")
    PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=4,
    ).save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory) -> Path:
    """A folder with a byte-level BPE like GPT-2's: <|endoftext|>, and no mask."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(TEXTS, trainer)
    end = "<|endoftext|>"
    folder = tmp_path_factory.mktemp("gpt2")
    PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=end, eos_token=end, unk_token=end
    ).save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def gpt2_tokenizer(gpt2, tmp_path_factory) -> Tokenizer:
    return load(str(gpt2), tmp_path_factory.mktemp("gpt2-cache"))


@pytest.fixture(scope="module", params=["bytes", "bpe:320", "bert", "gpt2"])
def any_tokenizer(request, bert, gpt2, tmp_path_factory) -> Tokenizer:
    spec = {"bert": str(bert), "gpt2": str(gpt2)}.get(request.param, request.param)
    return load(spec, tmp_path_factory.mktemp("any"))


def ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode([text])[0].tolist()


class TestAny:
    def test_ids_are_of_the_vocabulary(self, any_tokenizer):
        for ids in any_tokenizer.encode([*TEXTS, *SPECIAL, "the cats sat", "\x00"]):
            assert ids.dtype == np.int64
            assert ids.ndim == 1
            assert ((ids >= 0) & (ids < any_tokenizer.vocab_size)).all()

    def test_special_ids(self, any_tokenizer):
        assert any_tokenizer.mask_id != any_tokenizer.separator_id
        assert any_tokenizer.mask_id in any_tokenizer.never_predicted
        assert any_tokenizer.separator_id not in any_tokenizer.never_predicted
        assert max(any_tokenizer.never_predicted) < any_tokenizer.vocab_size

    @pytest.mark.parametrize("text", SPECIAL)
    def test_names_in_a_text_are_text(self, any_tokenizer, text):
        ids = ids_of(any_tokenizer, text)
        assert ids
        assert any_tokenizer.mask_id not in ids
        assert not set(ids) & set(any_tokenizer.never_predicted)
        assert any_tokenizer.separator_id not in ids

    def test_texts_are_encoded_each_on_its_own(self, any_tokenizer):
        texts = ["the cat", SPECIAL[0], "sat on the mat " * 30, "s"]
        together = any_tokenizer.encode(texts)
        assert [ids.tolist() for ids in together] == [ids_of(any_tokenizer, t) for t in texts]

    def test_masks_are_shown(self, any_tokenizer):
        the, cat = ids_of(any_tokenizer, "the"), ids_of(any_tokenizer, "cat")
        mask = any_tokenizer.mask_id
        shown = any_tokenizer.decode([mask, *the, mask, mask, *cat])
        words = any_tokenizer.decode([*the, *cat])  # with or without a space between
        assert shown == {"thecat": "░the░░cat", "the cat": "░ the░░ cat"}[words]
        assert any_tokenizer.decode([mask]) == "░"
        assert any_tokenizer.decode([]) == ""

    def test_separators_are_shown(self, any_tokenizer):
        the, cat = ids_of(any_tokenizer, "the"), ids_of(any_tokenizer, "cat")
        assert any_tokenizer.decode([*the, any_tokenizer.separator_id, *cat]) == "the\n¶\ncat"

    def test_save_and_read(self, any_tokenizer, tmp_path):
        any_tokenizer.save(tmp_path / "saved")
        again = saved_tokenizer(tmp_path / "saved")
        texts = [*TEXTS[:20], *SPECIAL, "the cats sat on\n\tthe mat"]
        encoded = any_tokenizer.encode(texts)
        for ids, same in zip(encoded, again.encode(texts), strict=True):
            assert ids.tolist() == same.tolist()
            assert any_tokenizer.decode(ids.tolist()) == again.decode(ids.tolist())
        for name in ("vocab_size", "mask_id", "separator_id", "never_predicted", "fingerprint"):
            assert getattr(again, name) == getattr(any_tokenizer, name)

    def test_save_twice(self, any_tokenizer, tmp_path):
        any_tokenizer.save(tmp_path)
        saved_tokenizer(tmp_path).save(tmp_path)
        assert saved_tokenizer(tmp_path).fingerprint == any_tokenizer.fingerprint


JOINS = st.lists(
    st.sampled_from(
        [" ", "  ", "the", "cat", "alp", "ha", "bet", "a", "喜", "我喜", "欢吃苹", "果", ".", "\n"]
    ),
    max_size=6,
).map("".join)


@cache
def of_the_field(folder: Path) -> Tokenizer:
    return hub_tokenizer(str(folder))


class TestPairs:
    """A text and its continuation: the tokens of the whole, cut where all of the latter follows."""

    @pytest.mark.parametrize("kind", ["bytes", "wordpiece", "llama", "t5", "gpt2", "dropping"])
    @settings(max_examples=3 * settings.default.max_examples // 2)
    @given(context=JOINS, continuation=JOINS)
    def test_the_second_holds_the_continuation(
        self, kind, context, continuation, tokenizer_folders
    ):
        bytes_ = load_tokenizer("bytes", [], "", Path())
        tokenizer = bytes_ if kind == "bytes" else of_the_field(tokenizer_folders[kind])
        left, right = tokenizer.encode_pair(context, continuation)
        whole = ids_of(tokenizer, context + continuation)
        assert left + right == whole
        if not context:
            assert not left
        alone = ids_of(tokenizer, context)
        assert left == alone[: len(left)]
        hides = bool({*whole} & {*tokenizer.unknown_ids})
        if not hides:  # and it holds no more than it must
            assert left == alone or whole[len(left)] != alone[len(left)]
        if kind in ("bytes", "llama", "gpt2") and continuation:
            given = tokenizer.decode(left).rstrip("\ufffd")
            assert context.startswith(given)
            assert right

    def test_an_unknown_token_that_hides_both_is_the_continuation_s(self, tokenizer_folders):
        tokenizer = of_the_field(tokenizer_folders["wordpiece"])
        (unknown,) = tokenizer.unknown_ids
        cat = ids_of(tokenizer, "cat")
        assert tokenizer.encode_pair("the zz", "q cat") == (
            ids_of(tokenizer, "the"),
            [unknown, *cat],
        )
        assert tokenizer.encode_pair("the zzq", " cat") == (ids_of(tokenizer, "the zzq"), cat)


class TestInside:
    @pytest.mark.parametrize("kind", ["llama", "gpt2", "t5"])
    @settings(max_examples=3 * settings.default.max_examples // 2)
    @given(before=JOINS, text=JOINS)
    def test_a_text_inside_another_comes_back(self, kind, before, text, tokenizer_folders):
        tokenizer = of_the_field(tokenizer_folders[kind])
        start = ids_of(tokenizer, f"the{before}")
        ids = [*start, *tokenizer.encode_inside(text)]
        assert tokenizer.decode(ids) == f"the{before}{text}"
        assert text_after(tokenizer, start, ids[len(start) :]) == text


def broken(folder: Path, vocabulary: dict[str, int], unknown: str | None = "[UNK]", **roles) -> str:
    """A folder with a tokenizer of whole words that has these ids."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    model = models.WordLevel(vocabulary, **({} if unknown is None else {"unk_token": unknown}))
    backend = Backend(model)
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    if unknown is not None:
        roles.setdefault("unk_token", unknown)
    PreTrainedTokenizerFast(tokenizer_object=backend, **roles).save_pretrained(str(folder))
    return str(folder)


class TestBroken:
    HOLES: ClassVar[dict[str, int]] = {"[UNK]": 0, "the": 3, "cat": 4, "sat": 9, "[SEP]": 7}

    @pytest.mark.parametrize("roles", [{}, {"sep_token": "[SEP]"}, {"eos_token": "[SEP]"}])
    def test_an_added_mask_is_above_all_holes(self, tmp_path, roles):
        tokenizer = hub_tokenizer(broken(tmp_path / "holes", self.HOLES, **roles))
        assert tokenizer.mask_id > 9
        assert roles == {} or tokenizer.separator_id == 7
        assert {tokenizer.mask_id, tokenizer.separator_id}.isdisjoint({0, 3, 4, 9})
        assert tokenizer.vocab_size == 1 + max(tokenizer.mask_id, tokenizer.separator_id)
        assert ids_of(tokenizer, "the cat sat mat") == [3, 4, 9, 0]
        assert tokenizer.decode([3, tokenizer.mask_id, 9]) == "the░ sat"
        tokenizer.save(tmp_path / "saved")
        again = saved_tokenizer(tmp_path / "saved")
        assert again.fingerprint == tokenizer.fingerprint
        assert again.mask_id == tokenizer.mask_id
        assert ids_of(again, "the cat sat mat") == [3, 4, 9, 0]

    def test_holes_with_a_mask_of_its_own_stay(self, tmp_path):
        roles = {"mask_token": "[MASK]", "eos_token": "[SEP]"}
        tokenizer = hub_tokenizer(broken(tmp_path, {**self.HOLES, "[MASK]": 20}, **roles))
        assert (tokenizer.mask_id, tokenizer.separator_id, tokenizer.vocab_size) == (20, 7, 21)

    @pytest.mark.parametrize(
        ("roles", "said"),
        [
            ({"mask_token": "[SEP]", "eos_token": "[SEP]"}, "'[SEP]' is also the one that ends"),
            ({"mask_token": "[SEP]", "sep_token": "[SEP]"}, "'[SEP]' is also the one that ends"),
            ({"mask_token": "[UNK]", "eos_token": "[SEP]"}, "'[UNK]' is also the one for unknown"),
            ({"mask_token": "[UNK]", "eos_token": "[UNK]"}, "'[UNK]' is also"),
        ],
        ids=str,
    )
    def test_a_mask_with_a_second_meaning_is_named(self, tmp_path, roles, said):
        with pytest.raises(UserError, match=re.escape(said)) as caught:
            hub_tokenizer(broken(tmp_path, self.HOLES, **roles))
        assert "a token of its own" in str(caught.value)

    def test_two_tokens_of_one_id_are_named(self, tmp_path):
        words = {"[UNK]": 0, "the": 3, "cat": 4, "sat": 9}  # the library gives the mask the id 4
        folder = broken(tmp_path, words, mask_token="[MASK]", eos_token="the")
        with pytest.raises(UserError, match=r"'\[MASK\]' and 'cat' share the id 4"):
            hub_tokenizer(folder)

    def test_a_special_token_in_a_hole_keeps_it(self, tmp_path):
        one = broken(tmp_path / "one", self.HOLES, mask_token="[MASK]", sep_token="[SEP]")
        tokenizer = hub_tokenizer(one)
        assert (tokenizer.mask_id, tokenizer.separator_id) == (5, 7)
        assert ids_of(tokenizer, "the cat sat mat") == [3, 4, 9, 0]
        two = broken(tmp_path / "two", self.HOLES, mask_token="[MASK]")  # and a second to be added
        with pytest.raises(UserError, match="'sat' share the id 9"):
            hub_tokenizer(two)

    def test_a_text_without_token_where_there_is_no_unknown_one(self, tmp_path):
        folder = broken(tmp_path, {"the": 0, "cat": 1}, unknown=None)
        tokenizer = hub_tokenizer(folder)
        assert ids_of(tokenizer, "the cat") == [0, 1]
        with pytest.raises(UserError, match="it cannot encode a text"):
            tokenizer.encode(["the dog"])

    def test_an_unknown_token_that_ends_documents_cannot_stand_for_text(self, tmp_path):
        roles = {"eos_token": "[UNK]", "mask_token": "[MASK]"}
        folder = broken(tmp_path, {"[UNK]": 0, "the": 1, "[MASK]": 2}, **roles)
        tokenizer = hub_tokenizer(folder)
        assert ids_of(tokenizer, "the the") == [1, 1]
        with pytest.raises(UserError, match=r"special token '\[UNK\]'"):
            tokenizer.encode(["the dog"])

    def test_padding_may_be_any_other(self, tmp_path):
        vocabulary = {"[UNK]": 0, "the": 1, "[SEP]": 2}
        for number, pad in enumerate(("[UNK]", "[SEP]")):
            folder = broken(tmp_path / str(number), vocabulary, pad_token=pad, eos_token="[SEP]")
            tokenizer = hub_tokenizer(folder)
            assert (tokenizer.mask_id, tokenizer.separator_id) == (3, 2)
            assert ids_of(tokenizer, "the dog") == [1, 0]


class TestBytes:
    @given(st.text())
    def test_lossless(self, text):
        tokenizer = load_tokenizer("bytes", [], "", Path())
        assert tokenizer.decode(ids_of(tokenizer, text)) == text

    def test_ids(self, tmp_path):
        tokenizer = load("bytes", tmp_path)
        assert tokenizer.vocab_size == 258
        assert ids_of(tokenizer, "aé") == [97, 195, 169]
        assert tokenizer.never_predicted == (tokenizer.mask_id,)

    def test_bytes_that_are_no_text(self, tmp_path):
        assert load("bytes", tmp_path).decode([97, 0xFF, 98]) == "a\ufffdb"


class TestBpe:
    @given(text=st.text())
    def test_lossless(self, bpe, text):
        assert bpe.decode(ids_of(bpe, text)) == text

    @pytest.mark.parametrize("text", [*SPECIAL, TEXTS[0], " \n\r\n\t x  ", "░\n¶\n", "e\u0301é"])
    def test_lossless_where_it_is_hard(self, bpe, text):
        assert bpe.decode(ids_of(bpe, text)) == text

    def test_vocabulary(self, bpe):
        assert bpe.vocab_size == 320
        assert bpe.never_predicted == (bpe.mask_id,)
        assert len(ids_of(bpe, TEXTS[0])) < 0.6 * len(TEXTS[0].encode())

    def test_text_full_of_its_names(self, tmp_path):
        texts = [f"<|mask|> {number} <|sep|>" for number in range(300)] * 3
        bpe = load("bpe:270", tmp_path, texts)
        for text in [*texts[:5], *SPECIAL]:
            assert not {bpe.mask_id, bpe.separator_id} & set(ids_of(bpe, text))
            assert bpe.decode(ids_of(bpe, text)) == text

    def test_training_is_deterministic(self, tmp_path):
        a, b = load("bpe:320", tmp_path / "a"), load("bpe:320", tmp_path / "b")
        assert a.fingerprint == b.fingerprint
        other = load("bpe:320", tmp_path / "c", [text[::-1] for text in TEXTS])
        assert other.fingerprint != a.fingerprint
        assert load("bpe:310", tmp_path / "a").fingerprint != a.fingerprint

    def test_is_kept(self, tmp_path):
        first = load("bpe:320", tmp_path)

        def never():
            raise AssertionError("the text is read again")
            yield ""

        assert load("bpe:320", tmp_path, never()).fingerprint == first.fingerprint

    @pytest.mark.parametrize("name", ["unmask.json", "tokenizer.json"])
    def test_damaged_one_is_made_again(self, tmp_path, name):
        first = load("bpe:320", tmp_path)
        (file,) = tmp_path.rglob(name)
        file.write_bytes(file.read_bytes()[:-20])
        assert load("bpe:320", tmp_path).fingerprint == first.fingerprint
        json.loads(file.read_text())

    @pytest.mark.parametrize("size", ["257", "0", "-5", "many", "", "3.5", "1e4", " 300"])
    def test_bad_size(self, tmp_path, size):
        with pytest.raises(UserError) as caught:
            load(f"bpe:{size}", tmp_path)
        message = str(caught.value)
        assert f"'bpe:{size}'" in message
        assert "258" in message

    def test_smallest(self, tmp_path):
        tokenizer = load("bpe:258", tmp_path)
        assert tokenizer.vocab_size == 258
        assert len(ids_of(tokenizer, TEXTS[0])) == len(TEXTS[0].encode())

    def test_more_than_the_text_supports(self, tmp_path):
        with pytest.raises(UserError) as caught:
            load("bpe:5000", tmp_path, ["abab"])
        message = str(caught.value)
        assert "bpe:5000" in message
        largest = int(message.split("at most ")[1].split(maxsplit=1)[0])
        assert load(f"bpe:{largest}", tmp_path, ["abab"]).vocab_size == largest
        with pytest.raises(UserError):
            load(f"bpe:{largest + 1}", tmp_path, ["abab"])
        assert not list(tmp_path.rglob(".making*"))

    def test_error_of_the_text_comes_through(self, tmp_path):
        def broken():
            yield "fine"
            raise UserError("line 2 is wrong")

        with pytest.raises(UserError, match=r"^line 2 is wrong$"):
            load("bpe:300", tmp_path, broken())


class TestFolders:
    def test_bert(self, bert, tmp_path):
        tokenizer = load(str(bert), tmp_path)
        assert (tokenizer.mask_id, tokenizer.separator_id) == (4, 3)
        assert tokenizer.vocab_size == 17
        assert tokenizer.never_predicted == (0, 2, 4)  # [UNK], 1, stands for text
        assert ids_of(tokenizer, "The cats sat on zebras") == [5, 6, 15, 7, 8, 1]

    def test_bert_adds_no_special_tokens_and_cuts_nothing_off(self, bert, tmp_path):
        tokenizer = load(str(bert), tmp_path)
        assert ids_of(tokenizer, "cat " * 50) == [6] * 50

    def test_gpt2(self, gpt2, tmp_path):
        tokenizer = load(str(gpt2), tmp_path)
        assert tokenizer.vocab_size == 301
        assert tokenizer.mask_id == 300  # added
        assert tokenizer.separator_id == 0
        assert tokenizer.never_predicted == (300,)

    @given(text=st.text())
    def test_gpt2_is_lossless(self, gpt2_tokenizer, text):
        assert gpt2_tokenizer.decode(ids_of(gpt2_tokenizer, text)) == text

    def test_fingerprints_differ(self, bert, gpt2, bpe, tmp_path):
        tokenizers = [bpe, *(load(spec, tmp_path) for spec in ("bytes", str(bert), str(gpt2)))]
        assert len({tokenizer.fingerprint for tokenizer in tokenizers}) == 4

    @pytest.mark.parametrize("spec", ["byte", "bpe", "nobody/no-such-tokenizer"])
    def test_unknown(self, tmp_path, spec):
        with pytest.raises(UserError) as caught:
            load(spec, tmp_path)
        message = str(caught.value)
        assert f"corpus.tokenizer '{spec}'" in message
        assert "bytes, bpe:N" in message
        assert "\n" not in message

    def test_folder_without_a_tokenizer(self, tmp_path):
        (tmp_path / "nothing").mkdir()
        with pytest.raises(UserError) as caught:
            load(str(tmp_path / "nothing"), tmp_path)
        assert str(tmp_path / "nothing") in str(caught.value)
        assert "bytes, bpe:N" in str(caught.value)

    @pytest.mark.parametrize("note", [None, "{", "[]", '{"kind": "hub"}'])
    def test_nothing_saved(self, tmp_path, note):
        if note is not None:
            (tmp_path / "unmask.json").write_text(note)
        with pytest.raises(UserError, match="saved tokenizer") as caught:
            saved_tokenizer(tmp_path)
        assert str(tmp_path) in str(caught.value)

    def test_saved_and_damaged(self, bpe, tmp_path):
        bpe.save(tmp_path)
        file = tmp_path / "tokenizer.json"
        file.write_bytes(file.read_bytes()[:-20])
        with pytest.raises(UserError, match="saved tokenizer"):
            saved_tokenizer(tmp_path)
