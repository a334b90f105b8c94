"""What the formats hold beyond plain cases, and what is refused in them."""

import bz2
import gzip
import json
import lzma
import os
import tracemalloc
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from unmask.base.errors import UserError
from unmask.data.config import CorpusConfig
from unmask.data.files import FORMATS, Format
from unmask.data.load import load_data
from unmask.data.sources import open_source


def read(spec: object) -> list[str]:
    return list(open_source(str(spec)).train)


def problem(spec: object) -> str:
    with pytest.raises(UserError) as caught:
        read(spec)
    return str(caught.value)


def written(path: Path, data: str | bytes) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


class TestCsv:
    def test_quotes_commas_and_lines(self, tmp_path):
        text = 'id,text\n1,plain\n2,"with, comma"\n3,"two\nlines"\n\n4,"a ""quoted"" word"\n'
        path = written(tmp_path / "a.csv", text)
        assert read(path) == ["plain", "with, comma", "two\nlines", 'a "quoted" word']

    def test_field_is_a_column(self, tmp_path):
        path = written(tmp_path / "a.csv", "title,body\nx,y\n")
        assert read(f"{path}:field=body") == ["y"]
        message = problem(path)
        assert str(path) in message and "'text'" in message and "title, body" in message

    def test_a_document_longer_than_the_libraries_limit(self, tmp_path):
        long = "word " * 100_000
        assert read(written(tmp_path / "a.csv", f'text\n"{long}"\n')) == [long]

    @pytest.mark.parametrize(
        ("rows", "said"),
        [
            ("text,id\nfine,1\nshort\n", "line 3 has 1 column, and the first line names 2"),
            ('text\nfine\n"never closed\n', "is not CSV"),
            ('text\n"a"b\n', "line 2 is not CSV"),
        ],
    )
    def test_broken(self, tmp_path, rows, said):
        path = written(tmp_path / "a.csv", rows)
        assert f"{path}, line" in problem(path) and said in problem(path)

    def test_only_a_header(self, tmp_path):
        assert "holds no text" in problem(written(tmp_path / "a.csv", "text\n"))


class TestJson:
    def test_records_and_texts(self, tmp_path):
        assert read(written(tmp_path / "a.json", '[{"text": "a"}, {"text": "b"}]')) == ["a", "b"]
        assert read(written(tmp_path / "b.json", '[\n"a",\n"b\\u00e9"\n]')) == ["a", "bé"]

    def test_lines_of_records_are_told_to_be_jsonl(self, tmp_path):
        assert "name the file .jsonl" in problem(written(tmp_path / "a.json", '{"text": 1}\n{}'))

    @pytest.mark.parametrize(
        ("data", "said"),
        [('{"text": "a"}', "is not a JSON array"), ('["a", 7]', "record 2"), ("[", "is not JSON")],
    )
    def test_broken(self, tmp_path, data, said):
        path = written(tmp_path / "a.json", data)
        assert str(path) in problem(path) and said in problem(path)


ROW = {"meta": {"text": "inner", "n": 1}, "text": "outer", "a.b": "dotted"}


class TestFields:
    @pytest.fixture(params=[".jsonl", ".json", ".parquet"])
    def path(self, tmp_path, request) -> Path:
        path = tmp_path / f"a{request.param}"
        if request.param == ".parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist([ROW]), path)
            return path
        return written(path, json.dumps([ROW] if request.param == ".json" else ROW))

    def test_nested(self, path):
        assert read(f"{path}:field=meta.text") == ["inner"]
        assert read(f"{path}:field=a.b") == ["dotted"]  # a name with a dot in it is a name
        assert read(path) == ["outer"]

    @pytest.mark.parametrize(
        ("field", "names"), [("meta.body", "meta.text, meta.n"), ("other", "meta, text, a.b")]
    )
    def test_missing(self, path, field, names):
        message = problem(f"{path}:field={field}")
        assert f"no field '{field}'; its fields: {names}" in message
        assert str(path) in message

    def test_not_text(self, path):
        assert "'meta' is not text but dict" in problem(f"{path}:field=meta")
        assert "'meta.n' is not text but int" in problem(f"{path}:field=meta.n")

    def test_of_many_fields_a_few_are_named(self, tmp_path):
        path = written(tmp_path / "a.jsonl", json.dumps({f"f{i}": "x" for i in range(300)}))
        assert "f11 and 288 more" in problem(path)

    def test_a_field_whose_name_cannot_be_printed(self, tmp_path):
        message = problem(written(tmp_path / "a.jsonl", '{"\\ud800": "x"}'))
        assert "\\ud800" in message
        message.encode()


class TestOddJson:
    """What is not read is no reason to refuse a record; what is read is text or an error."""

    @pytest.mark.parametrize(
        "other", ["1" * 5000, "-" + "9" * 100_000, "NaN", "-Infinity", "1e999", '"\\ud800"', "null"]
    )
    def test_in_a_field_that_is_not_read(self, tmp_path, other):
        path = written(tmp_path / "a.jsonl", f'{{"n": {other}, "text": "fine"}}\n')
        assert read(path) == ["fine"]

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            ("1" * 5000, "not text but int"),
            ("NaN", "not text but float"),
            ('"\\ud800"', "surrogate"),
            ('"a\\udc00b"', "surrogate"),
        ],
    )
    def test_in_the_field_that_is_read(self, tmp_path, value, said):
        path = written(tmp_path / "a.jsonl", f'{{"text": "ok"}}\n{{"text": {value}}}\n')
        assert f"{path}, line 2" in problem(path) and said in problem(path)

    @pytest.mark.parametrize("suffix", [".json", ".jsonl"])
    def test_deep_nesting(self, tmp_path, suffix):
        deep = '{"text": "fine", "n": ' + "[" * 200_000 + "]" * 200_000 + "}"
        path = written(tmp_path / f"a{suffix}", deep if suffix == ".jsonl" else f"[{deep}]")
        assert str(path) in problem(path) and "nested too deeply" in problem(path)

    def test_long_lines_and_control_characters(self, tmp_path):
        text = "a\0b\x1b\r\n" + "long " * 1_000_000
        path = written(tmp_path / "a.jsonl", json.dumps({"text": text}))
        assert read(path) == [text]

    def test_line_separators_of_unicode_end_no_line(self, tmp_path):
        text = "a\u2028b\x85c\x0bd"
        path = written(tmp_path / "a.jsonl", json.dumps({"text": text}, ensure_ascii=False))
        assert read(path) == [text]


class TestMarks:
    """A byte order mark is no text."""

    @pytest.mark.parametrize(
        ("name", "data"),
        [
            ("a.txt", "x"),
            ("a.jsonl", '{"text": "x"}'),
            ("a.json", '["x"]'),
            ("a.csv", "text\nx\n"),
        ],
    )
    def test_of_utf_8_is_left_out(self, tmp_path, name, data):
        assert read(written(tmp_path / name, data.encode("utf-8-sig"))) == ["x"]
        compressed = written(tmp_path / f"{name}.gz", gzip.compress(data.encode("utf-8-sig")))
        assert read(compressed) == ["x"]

    @pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.json", "a.csv"])
    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-16-le", "utf-32"])
    def test_of_another_encoding_is_told(self, tmp_path, name, encoding):
        message = problem(written(tmp_path / name, "text and more".encode(encoding)))
        assert str(tmp_path / name) in message and encoding[:6].upper() in message

    def test_alone_is_no_text(self, tmp_path):
        assert "holds no text" in problem(written(tmp_path / "a.txt", b"\xef\xbb\xbf"))


def _zst(data: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


COMPRESS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": _zst}


class TestStreams:
    """All compressed streams of a file are read, or none."""

    @pytest.mark.parametrize("suffix", COMPRESS)
    def test_several(self, tmp_path, suffix):
        pack = COMPRESS[suffix]
        path = written(tmp_path / f"a.txt{suffix}", pack(b"one\n") + pack(b"two\n") + pack(b""))
        assert read(f"{path}:document=line") == ["one", "two"]
        path = written(tmp_path / f"A.TXT{suffix.upper()}", pack(b"one\n"))
        assert read(path) == ["one"]

    @pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz"])  # these hold a checksum
    @pytest.mark.parametrize("place", [0, 2, 5, 12, 20, -12, -3, -1])
    def test_a_damaged_second_stream(self, tmp_path, suffix, place):
        pack = COMPRESS[suffix]
        second = bytearray(pack(b"two " * 50))
        second[place] ^= 0xFF
        path = written(tmp_path / f"a.txt{suffix}", pack(b"one\n") + bytes(second))
        try:  # a flag or time that means nothing to the text may be another
            assert read(path) == ["one", "two " * 50]
        except UserError as error:
            assert str(path) in str(error) and "cannot be read" in str(error)

    @pytest.mark.parametrize("suffix", COMPRESS)
    @pytest.mark.parametrize("rest", [b"x", b"garbage", b"\x00\x00\x00\x00x"])
    def test_something_else_behind(self, tmp_path, suffix, rest):
        data = COMPRESS[suffix](b"one\n" * 9)
        path = written(tmp_path / f"a.txt{suffix}", data + rest)
        assert f"{path} cannot be read" in problem(path)

    @pytest.mark.parametrize("suffix", COMPRESS)
    def test_cut_at_every_place(self, tmp_path, suffix):
        data = COMPRESS[suffix](b"one\n" * 9)
        for end in range(len(data)):
            path = written(tmp_path / f"a.txt{suffix}", data[:end])
            assert f"{path} cannot be read" in problem(path)

    def test_zeros_behind_an_xz_are_padding(self, tmp_path):
        one = lzma.compress(b"one\n")
        path = written(tmp_path / "a.txt.xz", one + bytes(8) + one + bytes(4))
        assert read(f"{path}:document=line") == ["one", "one"]

    @pytest.mark.parametrize("lines", [2**18, pytest.param(2**21, marks=pytest.mark.slow)])
    def test_memory_does_not_grow_with_the_file(self, tmp_path, lines):
        path = written(tmp_path / "a.txt.xz", lzma.compress(b"0123456789abcde\n" * lines, preset=0))
        tracemalloc.start()
        assert sum(map(len, open_source(f"{path}:document=line").train)) == 15 * lines
        assert tracemalloc.get_traced_memory()[1] < 8 * lines
        tracemalloc.stop()


class TestChanges:
    """A file that changes after it was looked at is not the corpus that its hash stands for."""

    def test_while_it_is_read(self, tmp_path):
        path = written(tmp_path / "a.txt", "".join(f"line {i}\n" for i in range(20_000)))
        reading = iter(open_source(f"{path}:document=line").train)
        next(reading)
        written(path, path.read_text() + "more\n")
        with pytest.raises(UserError, match="has changed since reading began") as caught:
            list(reading)
        assert str(path) in str(caught.value)

    def test_between_opening_and_reading(self, tmp_path):
        path = written(tmp_path / "a.txt", "a\nb\n")
        documents = open_source(str(path)).train
        os.utime(path, (1, 1))
        with pytest.raises(UserError, match="has changed"):
            list(documents)

    def test_gone(self, tmp_path):
        path = written(tmp_path / "a.txt", "a\nb\n")
        documents = open_source(str(path)).train
        path.unlink()
        with pytest.raises(UserError, match="cannot be read: No such file"):
            list(documents)


def test_a_new_format_is_one_entry(tmp_path, monkeypatch):
    def shout(path: Path, field: str):
        yield path.read_text().upper()

    monkeypatch.setitem(FORMATS, ".loud", Format(shout))
    written(tmp_path / "a.loud", "first")
    written(tmp_path / "b.txt", "second")
    assert read(tmp_path) == ["FIRST", "second"]
    assert "field= is for .jsonl, .json, .csv, .parquet, .loud files" in problem(
        f"{tmp_path / 'b.txt'}:field=x"
    )
    assert ".loud" in problem(written(tmp_path / "c.docx", ""))
    data = load_data(CorpusConfig(source=str(tmp_path), block_size=2))
    assert data.train.n_bytes + data.valid.n_bytes == len("FIRSTsecond")
