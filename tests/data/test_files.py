"""The user's own files: every kind, every compression, every way they can be wrong."""

import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from unmask.base.errors import UserError
from unmask.data.sources import open_source

TEXTS = ["one line", "two\nlines, ünïcödé 漢字 🙂", "  spaces kept  ", "the last"]


def _zst(data: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": _zst,
}


def jsonl(texts: list[str], field: str = "text") -> bytes:
    return "".join(json.dumps({"id": 7, field: text}) + "\n" for text in texts).encode()


def write_parquet(path: Path, **columns: list) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def read(spec: object) -> list[str]:
    return list(open_source(str(spec)).train)


def problem(spec: object) -> str:
    """Return the message of the one error that opening and reading ``spec`` gives."""
    with pytest.raises(UserError) as caught:
        read(spec)
    return str(caught.value)


@pytest.mark.parametrize("suffix", COMPRESSIONS)
class TestCompressions:
    def test_txt(self, tmp_path, suffix):
        path = tmp_path / f"a.txt{suffix}"
        path.write_bytes(COMPRESSIONS[suffix]("eins é\nzwei\n\n drei \n".encode()))
        assert read(f"{path}:document=file") == ["eins é\nzwei\n\n drei \n"]
        assert read(f"{path}:document=line") == ["eins é", "zwei", " drei "]
        assert read(f"{path}:document=paragraph") == ["eins é\nzwei", " drei "]

    def test_jsonl(self, tmp_path, suffix):
        path = tmp_path / f"a.jsonl{suffix}"
        path.write_bytes(COMPRESSIONS[suffix](jsonl(TEXTS)))
        assert read(path) == TEXTS

    def test_longer_than_any_buffer(self, tmp_path, suffix):
        lines = [f"{number} {'ab é ' * 40}" for number in range(5000)]
        path = tmp_path / f"a.jsonl{suffix}"
        path.write_bytes(COMPRESSIONS[suffix](jsonl(lines)))
        assert read(path) == lines

    def test_can_be_read_twice(self, tmp_path, suffix):
        path = tmp_path / f"a.jsonl{suffix}"
        path.write_bytes(COMPRESSIONS[suffix](jsonl(TEXTS)))
        documents = open_source(str(path)).train
        assert list(documents) == list(documents) == TEXTS


class TestKinds:
    def test_parquet(self, tmp_path):
        path = write_parquet(tmp_path / "a.parquet", text=TEXTS, id=[1, 2, 3, 4])
        assert read(path) == TEXTS

    def test_parquet_of_several_row_groups(self, tmp_path):
        texts = [f"document {number}" for number in range(2500)]
        table = pyarrow.table({"text": texts})
        pyarrow.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=700)
        assert read(tmp_path / "a.parquet") == texts

    def test_folder_of_mixed_files_in_order_of_their_paths(self, tmp_path):
        folder = tmp_path / "mixed"
        (folder / "sub").mkdir(parents=True)
        (folder / "b.txt").write_text("from b\n\nstill b")
        (folder / "c.jsonl.gz").write_bytes(gzip.compress(jsonl(["from c", "also c"])))
        (folder / "d.txt.zst").write_bytes(_zst(b"from d"))
        write_parquet(folder / "sub" / "a.parquet", text=["from sub/a"])
        (folder / "notes.md").write_text("not a text file of a known kind")
        # several text files: each is one document
        expected = ["from b\n\nstill b", "from c", "also c", "from d", "from sub/a"]
        assert read(folder) == expected

    def test_empty_texts_are_left_out(self, tmp_path):
        path = tmp_path / "a.jsonl"
        path.write_bytes(jsonl(["a", "", "b"]) + b"\n  \n" + jsonl(["c"]))
        assert read(path) == ["a", "b", "c"]

    def test_path_with_colons_and_options(self, tmp_path):
        path = tmp_path / "a:b=c.jsonl"
        path.write_bytes(jsonl(TEXTS, "body"))
        assert read(f"{path}:field=body") == TEXTS

    def test_identity_follows_the_contents_and_options(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_text("a\n\nb\nc")
        first = open_source(str(path)).train.identity
        assert open_source(str(path)).train.identity == first
        assert open_source(f"{path}:document=line").train.identity != first
        path.write_text("a\n\nb\nd")
        assert open_source(str(path)).train.identity != first


class TestOptions:
    def test_field_of_jsonl_and_parquet(self, tmp_path):
        folder = tmp_path / "rows"
        folder.mkdir()
        (folder / "a.jsonl").write_bytes(jsonl(["x", "y"], "body"))
        write_parquet(folder / "b.parquet", body=["z"], text=["wrong"])
        assert read(f"{folder}:field=body") == ["x", "y", "z"]

    def test_auto_takes_paragraphs_where_there_are_some(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_text("\n\na\nb\n \nc\n\n")
        assert read(path) == read(f"{path}:document=auto") == ["a\nb", "c"]

    def test_auto_takes_lines_where_there_are_none(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_text("\n\na\nb\nc\n\n")  # blank lines at the ends part nothing
        assert read(path) == ["a", "b", "c"]

    def test_windows_line_ends(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_bytes(b"a\r\nb\r\n\r\nc\r\n")
        assert read(f"{path}:document=line") == ["a", "b", "c"]
        assert read(f"{path}:document=paragraph") == ["a\r\nb", "c"]

    def test_unknown_option(self, tmp_path):
        path = tmp_path / "a.jsonl"
        path.write_bytes(jsonl(TEXTS))
        message = problem(f"{path}:feild=body")
        assert "'feild'" in message
        assert "document, field" in message

    def test_malformed_option(self, tmp_path):
        path = tmp_path / "a.jsonl"
        path.write_bytes(jsonl(TEXTS))
        assert "key=value" in problem(f"{path}:field")

    def test_unknown_document(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_text("a")
        message = problem(f"{path}:document=page")
        assert "'page'" in message
        assert all(valid in message for valid in ("auto", "file", "line", "paragraph"))

    def test_field_that_would_change_nothing(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_text("a")
        message = problem(f"{path}:field=body")
        assert str(path) in message
        assert "field= is for .jsonl, .json, .csv, .parquet files" in message

    def test_document_that_would_change_nothing(self, tmp_path):
        path = tmp_path / "a.jsonl"
        path.write_bytes(jsonl(TEXTS))
        message = problem(f"{path}:document=line")
        assert str(path) in message
        assert "document= is for .txt" in message


class TestBadInput:
    @pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.txt.gz", "a.jsonl.zst"])
    def test_empty_file(self, tmp_path, name):
        path = tmp_path / name
        path.write_bytes(COMPRESSIONS[path.suffix if path.suffix in COMPRESSIONS else ""](b""))
        message = problem(path)
        assert str(path) in message
        assert "no text" in message

    def test_folder_without_text_files(self, tmp_path):
        folder = tmp_path / "empty"
        folder.mkdir()
        (folder / "picture.png").write_bytes(b"x")
        message = problem(folder)
        assert str(folder) in message
        assert ".txt, .jsonl, .json, .csv or .parquet" in message

    def test_unknown_kind_of_file(self, tmp_path):
        path = tmp_path / "a.docx"
        path.write_text("a,b")
        message = problem(path)
        assert str(path) in message
        assert ".txt, .jsonl, .json, .csv or .parquet" in message

    @pytest.mark.parametrize("suffix", COMPRESSIONS)
    def test_not_utf8(self, tmp_path, suffix):
        path = tmp_path / f"a.txt{suffix}"
        path.write_bytes(COMPRESSIONS[suffix]("good\nGrüße".encode("latin-1")))
        message = problem(path)
        assert str(path) in message
        assert "UTF-8" in message
        assert "line 2" in message

    def test_one_bad_file_of_a_folder_is_named(self, tmp_path):
        folder = tmp_path / "texts"
        folder.mkdir()
        (folder / "good.txt").write_text("good")
        (folder / "wrong.txt").write_bytes(b"\xff\xfe")
        assert str(folder / "wrong.txt") in problem(folder)

    def test_parquet_that_is_not_utf8(self, tmp_path):
        text = pyarrow.array([b"good", b"\xff\xfe"]).view(pyarrow.string())
        path = write_parquet(tmp_path / "a.parquet", text=text)
        message = problem(path)
        assert str(path) in message
        assert "UTF-8" in message

    def test_missing_field_of_jsonl(self, tmp_path):
        path = tmp_path / "a.jsonl"
        path.write_bytes(jsonl(TEXTS, "body") + jsonl(TEXTS, "content"))
        message = problem(path)
        assert f"{path}, line 1" in message
        assert "'text'" in message
        assert "id, body" in message
        assert f"{path}, line 5" in problem(f"{path}:field=body")

    def test_missing_field_of_parquet(self, tmp_path):
        path = write_parquet(tmp_path / "a.parquet", id=[1], body=["x"])
        message = problem(path)
        assert str(path) in message
        assert "'text'" in message
        assert "id, body" in message

    @pytest.mark.parametrize(("value", "kind"), [(7, "int"), (None, "NoneType"), (["x"], "list")])
    def test_field_of_jsonl_that_is_not_text(self, tmp_path, value, kind):
        path = tmp_path / "a.jsonl"
        path.write_bytes(jsonl(["fine"]) + json.dumps({"text": value}).encode())
        message = problem(path)
        assert f"{path}, line 2" in message
        assert "'text' is not text" in message
        assert kind in message

    def test_field_of_parquet_that_is_not_text(self, tmp_path):
        path = write_parquet(tmp_path / "a.parquet", text=["x", None])
        message = problem(path)
        assert f"{path}, row 2" in message
        assert "'text' is not text" in message

    def test_half_a_surrogate_pair(self, tmp_path):
        path = tmp_path / "a.jsonl"
        path.write_bytes(jsonl(["fine"]) + b'{"text": "\\ud83d"}')
        message = problem(path)
        assert f"{path}, line 2" in message
        assert "surrogate" in message

    @pytest.mark.parametrize("bad", ['{"text": "x"', "nonsense", '["text"]', '"text"'])
    def test_broken_json(self, tmp_path, bad):
        path = tmp_path / "a.jsonl"
        path.write_bytes(jsonl(["fine"]) + b"\n" + bad.encode() + b"\n" + jsonl(["fine"]))
        message = problem(path)
        assert f"{path}, line 3" in message
        assert "JSON" in message

    @pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
    def test_truncated(self, tmp_path, suffix):
        whole = COMPRESSIONS[suffix](jsonl([str(number**9) for number in range(3000)]))
        path = tmp_path / f"a.jsonl{suffix}"
        path.write_bytes(whole[: len(whole) // 2])
        message = problem(path)
        assert str(path) in message
        assert "cannot be read" in message

    @pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
    def test_not_what_its_name_says(self, tmp_path, suffix):
        path = tmp_path / f"a.txt{suffix}"
        path.write_bytes(b"plain text, not compressed at all")
        message = problem(path)
        assert str(path) in message
        assert "cannot be read" in message

    def test_damaged_parquet(self, tmp_path):
        path = write_parquet(tmp_path / "a.parquet", text=TEXTS * 100)
        path.write_bytes(path.read_bytes()[:-20])
        message = problem(path)
        assert str(path) in message
        assert "cannot be read" in message

    def test_compressed_parquet(self, tmp_path):
        whole = write_parquet(tmp_path / "b.parquet", text=TEXTS).read_bytes()
        path = tmp_path / "a.parquet.gz"
        path.write_bytes(gzip.compress(whole))
        message = problem(path)
        assert str(path) in message
        assert "decompress" in message

    @pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs Linux's /proc")
    def test_file_that_cannot_be_read(self, tmp_path):
        path = tmp_path / "a.txt"
        path.symlink_to("/proc/self/mem")  # opens, but its first byte is an I/O error
        message = problem(path)
        assert str(path) in message
        assert "cannot be read" in message
