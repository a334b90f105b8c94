"""Which corpus a name means."""

import sysconfig
from pathlib import Path

import pytest

from unmask.data.sources import SOURCES, open_source
from unmask.errors import UserError


class TestNames:
    def test_unknown_name_lists_the_valid_ones(self):
        with pytest.raises(UserError) as caught:
            open_source("wikitext-3")
        message = str(caught.value)
        assert "'wikitext-3'" in message
        assert "python-stdlib" in message
        assert all(name in message for name in SOURCES)
        assert ".jsonl" in message

    def test_missing_path(self, tmp_path):
        path = tmp_path / "nowhere.txt"
        with pytest.raises(UserError) as caught:
            open_source(str(path))
        message = str(caught.value)
        assert f"no file or folder '{path}'" in message
        assert ".jsonl" in message

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
        monkeypatch.chdir(tmp_path)
        assert list(open_source("./python-stdlib").train) == ["mine"]
        assert len(list(open_source("python-stdlib").train)) > 100


class TestStandardLibrary:
    def test_is_the_library(self):
        texts = list(open_source("python-stdlib").train)
        root = Path(sysconfig.get_path("stdlib"))
        assert len(texts) > 300
        assert (root / "textwrap.py").read_text(encoding="utf-8") in texts
        assert (root / "json" / "decoder.py").read_text(encoding="utf-8") in texts

    def test_has_no_tests_and_no_installed_packages(self):
        texts = set(open_source("python-stdlib").train)
        root = Path(sysconfig.get_path("stdlib"))
        folders = [p for p in root.rglob("*") if p.name in ("test", "tests", "idle_test")]
        tests = [file for folder in folders for file in folder.rglob("test_*.py")]
        installed = list((root / "site-packages").rglob("*.py"))[:500]
        compared = 0
        for file in [*tests, *installed]:
            text = file.read_bytes().decode(errors="replace").replace("\r\n", "\n")
            if len(text) > 1000:
                compared += 1
                assert text not in texts, file
        if tests or installed:
            assert compared > 0

    def test_same_identity_twice(self):
        first, second = open_source("python-stdlib").train, open_source("python-stdlib").train
        assert first.identity == second.identity
        assert list(first) == list(second)

    def test_has_no_options(self):
        with pytest.raises(UserError, match="python-stdlib has no options"):
            open_source("python-stdlib:field=text")
