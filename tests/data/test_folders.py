"""Which files a folder or a pattern stands for, and what is said of the others."""

import os
from pathlib import Path

import pytest

from unmask.base.errors import UserError
from unmask.data.files import find_files
from unmask.data.sources import open_source


@pytest.fixture
def folder(tmp_path) -> Path:
    """Five texts in three folders, and what is none."""
    root = tmp_path / "texts"
    names = ["b.txt", "A.TXT", "sub/c.JSONL", "sub/deep/d.txt", "other/e.txt"]
    left_out = [".hidden.txt", ".git/f.txt", "sub/.ipynb_checkpoints/g.txt", "__pycache__/h.txt"]
    for name in [*names, *left_out, "notes.md", "sub/script.py"]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text('{"text": "c"}' if name.endswith("JSONL") else name)
    return root


def names(spec: object) -> list[str]:
    found = find_files(str(spec))
    return [file.relative_to(found.root).as_posix() for file in found.files]


def problem(spec: object) -> str:
    with pytest.raises(UserError) as caught:
        list(open_source(str(spec)).train)
    return str(caught.value)


class TestFolders:
    def test_all_texts_in_order_whatever_the_capitals(self, folder):
        assert names(folder) == ["A.TXT", "b.txt", "other/e.txt", "sub/c.JSONL", "sub/deep/d.txt"]
        texts = ["A.TXT", "b.txt", "other/e.txt", "c", "sub/deep/d.txt"]
        assert list(open_source(str(folder)).train) == texts

    def test_what_is_left_out_is_counted_and_named(self, folder):
        skipped = set(find_files(str(folder)).skipped)
        assert skipped == {
            *(".hidden.txt", ".git/", "sub/.ipynb_checkpoints/", "__pycache__/"),
            *("notes.md", "sub/script.py"),
        }
        summary = open_source(str(folder)).summary
        assert summary.startswith("5 files, 6 skipped (.git/, .hidden.txt, __pycache__/ and 3 more")

    def test_one_file(self, folder):
        assert open_source(str(folder / "b.txt")).summary == "1 file"

    def test_a_hidden_folder_that_is_named_itself(self, folder):
        assert names(folder / ".git") == ["f.txt"]

    def test_links_to_folders_are_followed(self, folder, tmp_path):
        (folder / "link").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "x.txt").write_text("from elsewhere")
        assert "link/x.txt" in names(folder)
        assert "from elsewhere" in list(open_source(str(folder)).train)

    def test_a_link_to_a_file(self, folder, tmp_path):
        (tmp_path / "real").write_text("linked")
        (folder / "z.txt").symlink_to(tmp_path / "real")
        assert list(open_source(str(folder)).train)[-1] == "linked"

    def test_loops_end_and_each_folder_is_read_once(self, folder):
        before = names(folder)
        (folder / "sub" / "up").symlink_to(folder)
        (folder / "again").symlink_to(folder / "sub")
        (folder / "itself").symlink_to(".")
        assert names(folder) == before  # under the same names as without the links
        skipped = find_files(str(folder)).skipped
        assert sum("a link to a folder read" in name for name in skipped) == 3

    def test_a_broken_link_to_a_text_is_an_error(self, folder):
        (folder / "gone.txt").symlink_to("nowhere")
        assert str(folder / "gone.txt") in problem(folder)
        (folder / "gone.txt").unlink()
        (folder / "gone.md").symlink_to("nowhere")  # that no text would be read from
        (folder / ".#b.txt").symlink_to("editor@machine")
        assert {"gone.md", ".#b.txt"} <= set(find_files(str(folder)).skipped)

    def test_a_pipe_is_no_file(self, tmp_path):
        os.mkfifo(tmp_path / "a.txt")
        assert "neither a file nor a folder" in problem(tmp_path / "a.txt")
        assert "is no file" in problem(tmp_path)

    def test_a_folder_that_may_not_be_read(self, folder, monkeypatch):
        """Root may read everything, so the refusal is the system call's stand-in's."""
        from unmask.data import files

        def scandir(path):
            if Path(path).name == "deep":
                raise PermissionError(13, "Permission denied")
            return os.scandir(path)

        monkeypatch.setattr(files, "scandir", scandir)
        assert f"{folder / 'sub' / 'deep'} cannot be read: Permission denied" in problem(folder)

    def test_a_file_that_may_not_be_read(self, folder, monkeypatch):
        original = Path.open

        def refuse(self, *arguments, **options):
            if self.name == "b.txt":
                raise PermissionError(13, "Permission denied", str(self))
            return original(self, *arguments, **options)

        monkeypatch.setattr(Path, "open", refuse)
        assert f"{folder / 'b.txt'} cannot be read: Permission denied" in problem(folder)

    def test_nothing_there_is_known(self, tmp_path):
        (tmp_path / "a.md").write_text("x")
        (tmp_path / "b.txt.zip").write_text("x")
        message = problem(tmp_path)
        assert str(tmp_path) in message and "a.md, b.txt.zip" in message and ".jsonl" in message


class TestPatterns:
    @pytest.mark.parametrize(
        ("pattern", "expected"),
        [
            ("*.txt", ["b.txt"]),
            ("*.[tT][xX][tT]", ["A.TXT", "b.txt"]),
            ("**/*.txt", ["b.txt", "other/e.txt", "sub/deep/d.txt"]),
            ("sub/**", ["c.JSONL", "deep/d.txt"]),
            ("sub/**/d.???", ["deep/d.txt"]),
            ("s*", ["sub/c.JSONL", "sub/deep/d.txt"]),  # the folders it names, with all in them
            ("*/*.txt", ["other/e.txt"]),
        ],
    )
    def test_files(self, folder, pattern, expected):
        assert names(folder / pattern) == expected

    def test_with_options_and_in_the_current_folder(self, folder, monkeypatch):
        monkeypatch.chdir(folder / "sub")
        assert list(open_source("*.JSONL:field=text").train) == ["c"]
        assert list(open_source("**/*.txt:document=line").train) == ["sub/deep/d.txt"]

    def test_a_file_of_that_very_name_is_taken(self, folder):
        (folder / "[b].txt").write_text("brackets")
        assert list(open_source(str(folder / "[b].txt")).train) == ["brackets"]

    def test_what_the_pattern_names_but_is_no_text_is_named(self, folder):
        assert find_files(str(folder / "*")).skipped.count("notes.md") == 1
        assert find_files(str(folder / "*.txt")).skipped == [".hidden.txt"]

    def test_no_match(self, folder, tmp_path):
        assert f"no file that {folder / '*.csv'} names" in problem(folder / "*.csv")
        assert "did you mean" in problem(tmp_path / "text" / "*.csv")
