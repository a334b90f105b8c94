"""Which corpus a name means."""

import sysconfig
from itertools import islice
from pathlib import Path

import pytest

from unmask.base.errors import UserError
from unmask.data.documents import Source
from unmask.data.sources import named_sources, open_source


@pytest.fixture(scope="module")
def opened() -> Source:
    return open_source("python-stdlib")


@pytest.fixture(scope="module")
def library(opened: Source) -> list[str]:
    return list(opened.train)


class TestNames:
    def test_unknown_name_lists_the_valid_ones(self):
        with pytest.raises(UserError) as caught:
            open_source("wikitext-3")
        message = str(caught.value)
        assert "'wikitext-3'" in message
        assert "python-stdlib" in message
        assert all(name in message for name in named_sources())
        assert ".jsonl" in message

    def test_missing_path(self, tmp_path):
        path = tmp_path / "nowhere.txt"
        with pytest.raises(UserError) as caught:
            open_source(str(path))
        message = str(caught.value)
        assert f"no file or folder '{path}'" in message
        assert ".jsonl" in message

    @pytest.mark.parametrize(
        "name",
        ["C:\\data\\a.txt", "D:/texts/a.jsonl", "data\\a.txt", "~/texts", "a.txt", "a/b", "texts/"],
    )
    @pytest.mark.parametrize("options", ["", ":field=body", ":field=body,document=line"])
    def test_what_can_only_be_a_path(self, name, options, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UserError) as caught:
            open_source(name + options)
        assert f"no file or folder {name!r}" in str(caught.value)
        assert "python-stdlib" not in str(caught.value)  # all names behind every mistyped path

    def test_what_is_near_is_named(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "books.txt").write_text("x")
        with pytest.raises(UserError, match=r"'boks.txt' \(did you mean 'books.txt'\?\)"):
            open_source("boks.txt:document=line")
        with pytest.raises(UserError, match=r"'tinystorys' \(did you mean 'tinystories'\?\)"):
            open_source("tinystorys")

    def test_missing_path_with_options(self, tmp_path):
        with pytest.raises(UserError, match="no file or folder"):
            open_source(f"{tmp_path}/nowhere.jsonl:field=body")

    @pytest.mark.parametrize("spec", ["", ":document=file"])
    def test_no_name_is_not_the_current_folder(self, tmp_path, monkeypatch, spec):
        (tmp_path / "a.txt").write_text("a")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UserError, match="python-stdlib"):
            open_source(spec)

    def test_name_wins_over_a_file_and_dot_slash_over_the_name(self, tmp_path, monkeypatch):
        folder = tmp_path / "python-stdlib"
        folder.mkdir()
        (folder / "a.txt").write_text("mine")
        (tmp_path / "stdlib").mkdir()
        (tmp_path / "stdlib" / "a.py").write_text("Python's")
        monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path / "stdlib"))
        monkeypatch.chdir(tmp_path)
        assert list(open_source("./python-stdlib").train) == ["mine"]
        assert list(open_source("python-stdlib").train) == ["Python's"]


class TestStandardLibrary:
    def test_is_the_library(self, library):
        root = Path(sysconfig.get_path("stdlib"))
        assert len(library) > 300
        assert (root / "textwrap.py").read_text(encoding="utf-8") in library
        assert (root / "json" / "decoder.py").read_text(encoding="utf-8") in library

    def test_has_no_tests_and_no_installed_packages(self, library):
        texts = set(library)
        root = Path(sysconfig.get_path("stdlib"))
        installed = (root / "site-packages").rglob("*.py")
        left_out = [*root.glob("test/test_[a-d]*.py"), *root.glob("*/test*/test_*.py")]
        left_out += islice(installed, 100)
        long = [file for file in left_out if file.stat().st_size > 1000]  # no chance likeness
        if not long:
            pytest.skip("this Python came without tests and packages")
        for file in long:
            assert file.read_text(encoding="utf-8", errors="replace") not in texts, file

    def test_says_what_it_read(self, opened, library):
        files = int(opened.summary.partition(" files")[0])
        assert 0 <= files - len(library) < 30  # a few are empty, and so no documents

    def test_a_file_of_a_wrong_encoding_is_named(self, tmp_path, monkeypatch):
        (tmp_path / "good.py").write_bytes("# -*- coding: latin-1 -*-\nx = 'é'\n".encode("latin-1"))
        (tmp_path / "bad.py").write_bytes(b"x = '\xe9'\n")
        monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
        source = open_source("python-stdlib")
        assert source.summary == "1 file, 1 of a wrong encoding skipped (bad.py)"
        assert list(source.train) == ["# -*- coding: latin-1 -*-\nx = 'é'\n"]

    def test_same_identity_twice(self, opened, library):
        again = open_source("python-stdlib").train
        assert again.identity == opened.train.identity
        assert list(again) == library

    def test_has_no_options(self):
        with pytest.raises(UserError, match="python-stdlib has no options"):
            open_source("python-stdlib:field=text")
