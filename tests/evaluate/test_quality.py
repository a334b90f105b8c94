"""Entropy and distinct-n in closed form; perplexity as a ratio with its error."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unmask.evaluate.quality import Mean, TextQuality, distinct, text_quality, unigram_entropy

TOKENS = st.lists(st.integers(0, 6), min_size=1, max_size=40)


class Known:
    """A judge whose verdicts are given."""

    name = "known"

    def __init__(self, nats, scored):
        self.verdict = torch.tensor(nats).double(), torch.tensor(scored)

    def score(self, texts, on_batch):
        return self.verdict

    def encode(self, texts):
        return [[ord(letter) for letter in text] for text in texts]


@pytest.mark.parametrize(
    ("tokens", "nats"),
    [([7] * 9, 0.0), ([1, 2, 1, 2], math.log(2)), (range(50), math.log(50)),
     ([0, 0, 0, 1], 0.75 * math.log(4 / 3) + 0.25 * math.log(4))],
)  # fmt: skip
def test_entropy_of_known_frequencies(tokens, nats):
    assert unigram_entropy(list(tokens)) == pytest.approx(nats)


@given(TOKENS, st.randoms())
def test_entropy_knows_frequencies_alone(tokens, chance):
    shuffled = chance.sample(tokens, len(tokens))
    assert 0 <= unigram_entropy(tokens) <= math.log(len(tokens)) + 1e-12
    assert unigram_entropy(shuffled) == pytest.approx(unigram_entropy(tokens))


@given(TOKENS, st.integers(1, 3))
def test_distinct_counts_sets_of_ngrams(tokens, n):
    grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    found = distinct(tokens, n)
    assert math.isnan(found) if not grams else found == len(set(grams)) / len(grams)


def test_perplexity_is_a_ratio_over_tokens_with_the_error_of_a_ratio():
    nats, scored = [10.0, 50.0, 33.0, 4.0], [5, 20, 11, 2]
    found = text_quality(Known(nats, scored), ["abca", "aaaa", "abab", "zz"])
    ratio = sum(nats) / sum(scored)
    residuals = [a - ratio * n for a, n in zip(nats, scored, strict=True)]
    error = math.sqrt(sum(r * r for r in residuals) / 3 / 4) / (sum(scored) / 4)
    assert found.perplexity == pytest.approx(math.exp(ratio))
    assert found.interval == pytest.approx(
        (math.exp(ratio - 1.96 * error), math.exp(ratio + 1.96 * error))
    )
    assert found.tokens == 38
    assert found.texts == 4


def test_entropy_and_distinct_are_means_over_texts():
    judge = Known([1.0, 1.0], [3, 3])
    found = text_quality(judge, ["abab", "aaaa"])
    assert found.entropy.value == pytest.approx(math.log(2) / 2)
    assert found.entropy.stderr == pytest.approx(math.log(2) / 2)  # half the distance of two
    assert [m.value for m in found.distinct] == pytest.approx([3 / 8, 1 / 2, 3 / 4])
    given_tokens = text_quality(judge, ["abab", "aaaa"], [[1, 2, 3, 4], [1, 2, 3, 4]])
    assert given_tokens.entropy == Mean(math.log(4), 0.0)


def test_a_text_without_an_ngram_counts_for_none():
    found = text_quality(Known([1.0, 1.0], [1, 3]), ["ab", "abcd"])
    assert found.distinct[2].value == 1.0
    assert math.isnan(found.distinct[2].stderr)


def test_a_perplexity_cannot_be_had_without_entropy():
    mean = Mean(1.0, 0.1)
    with pytest.raises(TypeError):
        TextQuality(nll=mean, distinct=(mean, mean, mean), texts=2, tokens=9)
    with pytest.raises(ValueError, match="entropy"):
        TextQuality(mean, Mean(math.nan, math.nan), (mean, mean, mean), 2, 9)


def test_the_record_is_json_even_of_one_text_and_of_nonsense():
    record = text_quality(Known([9000.0], [3]), ["abcd"]).record()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["perplexity"] is None
    assert record["nll_stderr"] is None
    assert record["entropy"] == pytest.approx(math.log(4))
