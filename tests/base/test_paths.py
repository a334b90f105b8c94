"""A mistyped path is told from a name on a hub, and what is near it is named."""

import pytest

from unmask.base.paths import looks_like_path, missing_path, near_paths


@pytest.mark.parametrize(
    "name",
    ["gpt2", "bert-base-uncased", "owner/name", "Qwen/Qwen2.5-0.5B", "t5-v1.1-base", "a:b", ""],
)
def test_names(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not looks_like_path(name)


@pytest.mark.parametrize(
    "name",
    [
        *("./gpt2", "../x", "~/texts", "/texts", "a/b/c", "texts/", "C:\\data\\a.txt", "D:/a"),
        *("data\\a", "a.txt", "a.TXT", "a.jsonl.gz", "model.gguf", "owner/a.csv", "there/name"),
    ],
)
def test_paths(name, tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    assert looks_like_path(name)


def test_what_is_near(tmp_path, monkeypatch):
    (tmp_path / "texts").mkdir()
    for name in ("books.txt", "Books2.txt", "other.jsonl"):
        (tmp_path / "texts" / name).write_text("x")
    monkeypatch.chdir(tmp_path)
    books = " (did you mean 'texts/books.txt'"
    assert near_paths("texts/boks.txt").startswith(books)
    assert near_paths("texts/BOOKS.txt").startswith(books)  # but for capitals
    assert near_paths("text/books.txt") == " (did you mean 'texts'?)"  # the folder is mistyped
    assert near_paths("nothing-like-it") == ""
    assert near_paths("texts") == ""  # no path is near itself
    assert near_paths("x" * 5000) == near_paths("x\0y") == ""


def test_only_a_few_are_named(tmp_path):
    for number in range(300):
        (tmp_path / f"part-{number:03}.txt").write_text("x")
    message = str(missing_path("corpus.source", str(tmp_path / "part-00.txt"), "a file"))
    assert "did you mean" in message and "valid: a file" in message
    assert message.count("part-") == 4  # the name itself and three
