"""Detokenised text is what a person would have written."""

import pytest

from unmask.base.errors import UserError
from unmask.data.detokenize import DETOKENIZERS, choose_detokenizer, detokenized
from unmask.data.sources import open_source

CASES = [
    ("wikitext", "a guest @-@ starring role", "a guest-starring role"),
    ("wikitext", "1 @,@ 234 @.@ 5 people", "1,234.5 people"),
    ("wikitext", 'the episode " Teddy \'s Story " of it', 'the episode "Teddy\'s Story" of it'),
    ("wikitext", "the boys ' club ; he didn 't .", "the boys' club; he didn't."),
    ("wikitext", "in Rome ( Italy ) , and [ then ] !", "in Rome (Italy), and [then]!"),
    ("wikitext", " = = Early life = = ", " == Early life == "),
    ("wikitext", "one line . \n next", "one line.\nnext"),
    ("wikitext", "a <unk> at 5 : 30", "a <unk> at 5: 30"),
    ("ptb", "mr. vinken 's years did n't", "mr. vinken's years didn't"),
    ("ptb", "the traders ' stocks", "the traders' stocks"),
    ("ptb", "$ N million for <unk>", "$1 million for ?"),
    ("ptb", "and\\/or N N", "and/or 1 1"),
    ("lm1b", 'He said , " I know . "', 'He said, "I know."'),
    ("lm1b", "It 's $ 5 ( about ) .", "It's $5 (about)."),
    ("lm1b", "see http : / / a.b / c ; ok ?", "see http://a.b/c; ok?"),
    ("lambada", " “Yes,” he said, ‘no’. ", "\n\"Yes,\" he said, 'no'."),
    (
        "papers",
        "the method , of @xcite , is ( very ) fast .",
        "the method, of @xcite, is (very) fast.",
    ),
]


@pytest.mark.parametrize(("name", "published", "written"), CASES)
def test_examples(name, published, written):
    assert DETOKENIZERS[name](published) == written


@pytest.mark.parametrize("name", [name for name in DETOKENIZERS if name != "lambada"])
def test_ordinary_text_stays_as_it_is(name):
    text = "She didn't go; the \"old\" dogs' house (red) cost 3.5, then: why?"
    assert DETOKENIZERS[name](text) == text


@pytest.mark.parametrize(
    ("name", "source", "chosen"),
    [
        ("auto", "wikitext-2", "wikitext"),
        ("auto", "wikitext-103:split=test", "wikitext"),
        ("auto", "some/folder/wikitext2-test.txt", "wikitext"),
        ("auto", "some/folder/WikiText.txt", "wikitext"),
        ("auto", "WIKITEXT-103.raw.jsonl.gz", "wikitext"),
        ("auto", "ptb.test.txt", "ptb"),
        ("auto", "PTB", "ptb"),
        ("auto", "ptbooks.txt", "none"),
        ("auto", "wikitexts.txt", "none"),
        ("auto", "my-wikitext.txt", "none"),
        ("auto", "lambadaX/a.txt", "none"),
        ("auto", "arxiv", "papers"),
        ("auto", "notes/arxiv.txt", "none"),
        ("auto", "lambada", "lambada"),
        ("auto", "ag-news", "none"),
        ("none", "ptb", "none"),
        ("lm1b", "books.txt", "lm1b"),
    ],
)
def test_a_corpus_has_its_own(name, source, chosen):
    assert choose_detokenizer(name, source) == chosen


def test_an_unknown_name_is_told_with_the_valid_ones():
    with pytest.raises(UserError, match=r"'wiki' \(did you mean 'wikitext'\?\); valid: auto"):
        choose_detokenizer("wiki", "x")


def test_documents_change_their_identity_with_their_text(tmp_path):
    (tmp_path / "a.txt").write_text("a , b\nc @-@ d\n")
    plain = open_source(str(tmp_path / "a.txt")).train
    changed = detokenized(plain, "wikitext")
    assert list(changed) == list(changed) == ["a, b", "c-d"]
    assert len({plain.identity, changed.identity, detokenized(plain, "ptb").identity}) == 3
    assert detokenized(plain, "none") is plain
