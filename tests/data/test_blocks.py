"""Packing: what becomes of every token, and what the counts say."""

import json
import math
import os
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unmask.data.blocks import Blocks, read_blocks, read_facts, write_blocks
from unmask.data.tokenizers import ByteTokenizer

SEPARATOR = ByteTokenizer.separator_id
documents = st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=12)
sizes = st.integers(2, 30)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """Syncing hundreds of small files is most of the time these tests take."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


class WordTokenizer(ByteTokenizer):
    """Ids up to a vocabulary of any size: a text is the numbers written in it."""

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self.separator_id, self.mask_id = vocab_size - 2, vocab_size - 1

    def encode(self, texts):
        return [np.array(text.split(), dtype=np.int64) for text in texts]


def packed(texts, block_size, packing, tokenizer=None) -> Blocks:
    """Write blocks, read them, and take them off the disk."""
    with TemporaryDirectory() as name:
        write_blocks(Path(name), texts, tokenizer or ByteTokenizer(), block_size, packing)
        facts = read_facts(Path(name))
        assert facts is not None
        assert facts.documents == len(texts)
        blocks = read_blocks(Path(name), facts)
        assert (facts.blocks, facts.block_size) == (len(blocks), blocks.block_size)
        return Blocks(
            np.array(blocks.tokens),
            blocks.lengths,
            n_tokens=blocks.n_tokens,
            n_bytes=blocks.n_bytes,
        )


class TestCover:
    @given(documents, sizes)
    def test_every_token_is_in_one_block(self, texts, block_size):
        blocks = packed(texts, block_size, "cover")
        x, valid = blocks.batch(torch.arange(len(blocks)))
        kept = x.flatten() if valid is None else x[valid]
        stream = [i for text in texts for i in [*text.encode(), SEPARATOR]]
        assert kept.tolist() == stream
        assert len(blocks) == -(-len(stream) // block_size)
        lengths = blocks.lengths_of(torch.arange(len(blocks)))
        assert (lengths[:-1] == block_size).all() and int(lengths.sum()) == blocks.n_tokens
        counts = blocks.token_counts(torch.arange(len(blocks)))
        assert counts.tolist() == np.bincount(stream).tolist()


class TestWrap:
    @given(documents, sizes)
    def test_blocks_are_a_prefix_of_the_stream(self, texts, block_size):
        stream = [i for text in texts for i in [*text.encode(), SEPARATOR]]
        blocks = packed(texts, block_size, "wrap")
        assert blocks.tokens.shape == (len(stream) // block_size, block_size)
        assert blocks.tokens.flatten().tolist() == stream[: blocks.tokens.size]
        assert blocks.lengths is None
        assert blocks.n_tokens == len(stream)
        assert blocks.n_bytes == len("".join(texts).encode())

    def test_example(self):
        blocks = packed(["abc", "de"], 3, "wrap")
        assert blocks.tokens.tolist() == [[97, 98, 99], [SEPARATOR, 100, 101]]

    def test_more_documents_than_are_encoded_at_once(self):
        texts = [f"document {number}" for number in range(2345)]
        stream = [i for text in texts for i in [*text.encode(), SEPARATOR]]
        blocks = packed(texts, 64, "wrap")
        assert blocks.tokens.flatten().tolist() == stream[: len(stream) // 64 * 64]
        assert blocks.n_tokens == len(stream)

    def test_large_documents(self, monkeypatch):
        monkeypatch.setattr("unmask.data.encode._LETTERS_AT_A_TIME", 100)
        texts = ["x" * 250, "y" * 30, "z" * 80, "w"]
        stream = [i for text in texts for i in [*text.encode(), SEPARATOR]]
        blocks = packed(texts, 5, "wrap")
        assert blocks.tokens.flatten().tolist() == stream[: len(stream) // 5 * 5]

    def test_too_little_for_one_block(self):
        blocks = packed(["abc"], 5, "wrap")
        assert len(blocks) == 0
        assert blocks.block_size == 5
        assert blocks.n_tokens == 4


class TestPad:
    @given(documents, sizes)
    def test_one_document_a_block(self, texts, block_size):
        blocks = packed(texts, block_size, "pad")
        assert blocks.tokens.shape == (len(texts), block_size)
        lengths = np.full(len(texts), block_size) if blocks.lengths is None else blocks.lengths
        for text, block, length in zip(texts, blocks.tokens.tolist(), lengths, strict=True):
            closed = [*text.encode(), SEPARATOR]
            assert length == min(len(closed), block_size)
            assert block[:length] == closed[:block_size]
            assert block[length:] == [SEPARATOR] * (block_size - length)
        assert blocks.n_tokens == sum(len(text.encode()) + 1 for text in texts)
        assert blocks.n_bytes == len("".join(texts).encode())

    @pytest.mark.parametrize(
        ("text", "block", "length"),
        [
            ("a", [97, SEPARATOR, SEPARATOR, SEPARATOR], 2),
            ("abc", [97, 98, 99, SEPARATOR], 4),
            ("abcd", [97, 98, 99, 100], 4),  # no room for its separator
            ("abcde", [97, 98, 99, 100], 4),
        ],
    )
    def test_edges(self, text, block, length):
        blocks = packed([text, "z"], 4, "pad")
        assert blocks.lengths is not None
        assert blocks.tokens[0].tolist() == block
        assert blocks.lengths.tolist() == [length, 2]

    def test_lengths_are_none_where_all_are_full(self):
        assert packed(["abcd", "abc", "abcdefgh"], 4, "pad").lengths is None


def test_bits_per_byte():
    """The nats of all tokens, over all bytes: with bytes as tokens, more tokens than bytes."""
    blocks = packed(["漢字", "ab"], 4, "wrap")
    nats_per_token = math.log(2)  # one bit a token
    bits = nats_per_token * blocks.n_tokens / math.log(2)
    assert bits / blocks.n_bytes == pytest.approx((7 + 3) / (6 + 2))


class TestTypes:
    @pytest.mark.parametrize(
        ("vocab_size", "dtype"),
        [(258, "uint16"), (2**16, "uint16"), (2**16 + 1, "uint32"), (200_000, "uint32")],
    )
    def test_smallest_that_holds_the_vocabulary(self, vocab_size, dtype):
        tokenizer = WordTokenizer(vocab_size)
        largest = vocab_size - 1
        blocks = packed([f"{largest} 0", "5"], 5, "wrap", tokenizer)
        assert blocks.tokens.dtype == np.dtype(dtype)
        assert blocks.tokens.tolist() == [[largest, 0, vocab_size - 2, 5, vocab_size - 2]]
        x, _ = blocks.batch(torch.tensor([0]))
        assert x.tolist() == blocks.tokens.tolist()

    def test_batch_of_full_blocks(self):
        blocks = packed(["abcdefghijklmnopqrstuvwxyz"], 4, "wrap")
        x, valid = blocks.batch(torch.tensor([3, 0, 3]))
        assert x.shape == (3, 4)
        assert x.dtype == torch.int64
        assert bytes(x.flatten().tolist()) == b"mnopabcdmnop"
        assert valid is None

    def test_batch_of_padded_blocks(self):
        blocks = packed(["a", "abcdef", "abc"], 5, "pad")
        x, valid = blocks.batch(torch.tensor([2, 0, 1, 2]))
        assert x.shape == (4, 5)
        assert x.dtype == torch.int64
        assert valid is not None
        assert valid.shape == (4, 5)
        assert valid.dtype == torch.bool
        assert valid.sum(dim=1).tolist() == [4, 2, 5, 4]
        assert all(row.tolist() == sorted(row.tolist(), reverse=True) for row in valid)

    def test_batch_can_be_changed_without_changing_the_blocks(self, tmp_path):
        write_blocks(tmp_path, ["abcdefgh"], ByteTokenizer(), 4, "wrap")
        facts = read_facts(tmp_path)
        assert facts is not None
        blocks = read_blocks(tmp_path, facts)
        blocks.batch(torch.tensor([0]))[0].fill_(0)
        assert blocks.batch(torch.tensor([0]))[0].tolist() == [[97, 98, 99, 100]]


class TestUnigramEntropy:
    @staticmethod
    def blocks(rows, lengths=None) -> Blocks:
        tokens = np.array(rows, dtype=np.uint16)
        kept = None if lengths is None else np.array(lengths, dtype=np.int32)
        return Blocks(tokens, kept, n_tokens=tokens.size, n_bytes=tokens.size)

    def test_uniform(self):
        blocks = self.blocks(np.arange(64).reshape(8, 8))
        assert blocks.unigram_entropy() == pytest.approx(math.log(64))

    def test_one_token(self):
        assert self.blocks(np.full((4, 5), 9)).unigram_entropy() == pytest.approx(0)

    def test_closed_form(self):
        blocks = self.blocks([[1, 1, 1, 1], [1, 1, 7, 300]])
        expected = -(6 / 8 * math.log(6 / 8) + 2 / 8 * math.log(1 / 8))
        assert blocks.unigram_entropy() == pytest.approx(expected)

    def test_padding_is_left_out(self):
        blocks = self.blocks([[1, 2, 9, 9], [1, 9, 9, 9], [2, 1, 1, 2]], [2, 1, 4])
        expected = -(4 / 7 * math.log(4 / 7) + 3 / 7 * math.log(3 / 7))
        assert blocks.unigram_entropy() == pytest.approx(expected)

    @pytest.mark.parametrize("at_a_time", [1, 9, 1000])
    def test_counted_in_parts(self, monkeypatch, at_a_time):
        monkeypatch.setattr("unmask.data.blocks._TOKENS_AT_A_TIME", at_a_time)
        rows = np.random.default_rng(0).geometric(0.1, (50, 8))  # the largest ids come in any part
        p = np.unique(rows, return_counts=True)[1] / rows.size
        assert self.blocks(rows).unigram_entropy() == pytest.approx(-(p * np.log(p)).sum())


class TestOnDisk:
    @pytest.mark.parametrize("name", ["tokens.bin", "lengths.bin", "facts.json"])
    @pytest.mark.parametrize("keep", [None, 0.5, 0])
    def test_what_is_not_all_there_is_not_read(self, tmp_path, name, keep):
        write_blocks(tmp_path, ["abcdefgh", "ijkl"], ByteTokenizer(), 4, "wrap")
        assert read_facts(tmp_path) is not None
        file = tmp_path / name
        if keep is None:
            file.unlink()
        else:
            file.write_bytes(file.read_bytes()[: int(file.stat().st_size * keep)])
        assert read_facts(tmp_path) is None

    @pytest.mark.parametrize("text", ["[]", "{}", '{"documents": 1}', "\x00\x00"])
    def test_facts_that_are_none(self, tmp_path, text):
        write_blocks(tmp_path, ["abcdefgh"], ByteTokenizer(), 4, "wrap")
        (tmp_path / "facts.json").write_text(text)
        assert read_facts(tmp_path) is None

    def test_facts_are_json(self, tmp_path):
        write_blocks(tmp_path, ["abé", "d"], ByteTokenizer(), 3, "wrap")
        facts = json.loads((tmp_path / "facts.json").read_text())
        assert facts == {
            "documents": 2,
            "bytes": 5,
            "lost_bytes": 0,
            "tokens": 7,
            "unknown_tokens": 0,
            "blocks": 2,
            "block_size": 3,
            "dtype": "uint16",
        }

    def test_blocks_stay_on_disk(self, tmp_path):
        write_blocks(tmp_path, ["abcdefgh"], ByteTokenizer(), 4, "wrap")
        facts = read_facts(tmp_path)
        assert facts is not None
        assert isinstance(read_blocks(tmp_path, facts).tokens, np.memmap)


def test_wrap_depends_on_order_only_through_the_stream():
    """Blocks of any size cut the same stream."""
    texts = ["abc", "defg", "h"]
    streams = [packed(texts, size, "wrap").tokens.flatten().tolist() for size in (2, 3, 5)]
    for a, b in pairwise(sorted(streams, key=len)):
        assert b[: len(a)] == a
