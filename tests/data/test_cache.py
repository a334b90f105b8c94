"""A packed corpus that was damaged in the cache is seen and made again."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from unmask.base.errors import UserError
from unmask.data.config import CorpusConfig
from unmask.data.load import Data, load_data


def shorten(path: Path, _: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path, _: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


def blank(path: Path, _: Path) -> None:
    """What some file systems make of a file whose machine went down."""
    path.write_bytes(bytes(path.stat().st_size))


def swap(path: Path, other: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(data)


def remove(path: Path, _: Path) -> None:
    path.unlink()


def same(a: Data, b: Data) -> bool:
    splits = ((a.train, b.train), (a.valid, b.valid))
    return a.facts == b.facts and all(np.array_equal(x.tokens, y.tokens) for x, y in splits)


@pytest.mark.parametrize("harm", [shorten, flip, blank, swap, remove])
def test_every_file_of_an_entry(harm: Callable[[Path, Path], None], tmp_path: Path) -> None:
    """Both splits are as long, so that sizes tell nothing; the tokenizer is trained on the text."""
    for split, letters in (("train", "abc "), ("valid", "cab ")):
        (tmp_path / f"{split}.txt").write_text(letters * 400)
    config = CorpusConfig(
        source=str(tmp_path / "train.txt"), valid_source=str(tmp_path / "valid.txt"),
        tokenizer="bpe:260", block_size=16,
    )  # fmt: skip
    cache = tmp_path / "cache"
    made = load_data(config, cache)
    expected = load_data(config, cache)
    assert same(made, expected)
    kept = shutil.copytree(cache, tmp_path / "kept")
    files = sorted(path.relative_to(cache) for path in cache.rglob("*.*") if path.is_file())
    assert {"tokens.bin", "lengths.bin", "facts.json", "checksums.json", "tokenizer.json"} <= {
        file.name for file in files
    }
    for file in files:
        (twin, *_) = [f for f in [*files, file] if f.name == file.name and f != file] or [file]
        harm(cache / file, cache / twin)
        again = load_data(config, cache)
        assert same(again, made), file
        assert (cache / file).read_bytes() == (kept / file).read_bytes(), file
    assert not list(cache.rglob(".making-*"))


def test_a_file_too_many_is_none_of_the_entry(corpus: Path, tmp_path: Path) -> None:
    config = CorpusConfig(source=str(corpus), block_size=32)
    made = load_data(config)
    (facts, _) = (tmp_path / "cache").rglob("facts.json")
    (facts.parent / "other.bin").write_bytes(b"x")
    assert same(load_data(config), made)
    assert not (facts.parent / "other.bin").exists()


def test_an_entry_that_cannot_be_read_is_named(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CorpusConfig(source=str(corpus), block_size=32)
    load_data(config)

    def broken(folder: Path) -> None:
        raise OSError(5, "Input/output error", str(folder / "tokens.bin"))

    monkeypatch.setattr("unmask.data.cache._checksums", broken)
    with pytest.raises(UserError, match=r"cache entry .*blocks/\w+ cannot be read \(Input/output"):
        load_data(config)
