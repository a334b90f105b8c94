"""Whatever is in a file, reading gives all of its text or one clear error, and changes nothing."""

import bz2
import csv
import gzip
import io
import json
import lzma
import tempfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.base.errors import UserError
from unmask.data.files import FORMATS
from unmask.data.sources import named_sources, open_corpus
from unmask.data.streams import COMPRESSIONS

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def _zst(data: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


COMPRESS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": _zst}
CHECKED = (".gz", ".bz2", ".xz")  # these hold a checksum of what was compressed


def content(suffix: str, texts: list[str]) -> bytes:
    """A whole file of a format, without compression."""
    if suffix == ".txt":
        return ("x" + "\n".join(texts)).encode()
    if suffix == ".json":
        return json.dumps([{"text": text, "n": 7} for text in texts]).encode()
    if suffix == ".jsonl":
        return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
    if suffix == ".csv":
        out = io.StringIO()
        csv.writer(out).writerows([["id", "text"], *([7, text] for text in texts)])
        return out.getvalue().encode()
    assert suffix == ".parquet"
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"text": pyarrow.array(texts, "string")}), out)
    return out.getvalue()


def damaged(data: bytes, how: str, place: float) -> bytes:
    at = int(place * len(data))
    if how == "cut":
        return data[:at]
    if how == "more":
        return data + b"\x00rest"
    if how == "flip" and data:
        return data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]
    return data


def read_all(spec: str) -> list[str] | UserError:
    try:
        shares = open_corpus(spec)
        return [text for share in shares for source in share.sources for text in source.train]
    except UserError as error:
        assert str(error) and "\n" not in str(error)
        return error


@settings(max_examples=4 * settings.default.max_examples)
@given(
    texts=st.lists(TEXT, max_size=4),
    suffix=st.sampled_from(sorted(FORMATS)),
    compression=st.sampled_from(["", *COMPRESSIONS]),
    streams=st.integers(1, 3),
    capitals=st.booleans(),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32-be"]),
    damage=st.sampled_from(["none", "none", "cut", "flip", "more"]),
    place=st.floats(0, 1, exclude_max=True),
)
def test_all_or_an_error(texts, suffix, compression, streams, capitals, encoding, damage, place):
    whole = content(suffix, texts)
    if suffix == ".parquet":
        compression = ""
    elif encoding != "utf-8":
        whole = whole.decode().encode(encoding)
    data = whole
    if compression:  # in several streams, as parallel compressors write them
        size = -(-len(whole) // streams) or 1
        pieces = [whole[i : i + size] for i in range(0, len(whole), size)] or [b""]
        data = b"".join(map(COMPRESS[compression], pieces))
    data = damaged(data, damage, place)
    with tempfile.TemporaryDirectory() as folder:
        name = f"a{suffix}{compression}"
        path = Path(folder) / (name.upper() if capitals else name)
        path.write_bytes(data)
        found = read_all(f"{path}:document=file" if suffix == ".txt" else str(path))
        assert path.read_bytes() == data
        assert [path] == list(Path(folder).iterdir())
    readable = suffix == ".parquet" or encoding in ("utf-8", "utf-8-sig")
    expected = ["x" + "\n".join(texts)] if suffix == ".txt" else [t for t in texts if t]
    if damage == "none" and readable and expected:
        assert found == expected
    elif damage == "none" and encoding != "utf-32-be":  # without a mark it may be any text
        assert isinstance(found, UserError)
    elif compression in CHECKED and damage != "cut" and readable:
        assert isinstance(found, UserError) or found == expected
    if isinstance(found, UserError):
        assert str(path) in str(found)


@settings(max_examples=3 * settings.default.max_examples)
@given(
    st.text(st.sampled_from("ab.*?[]:=,+~ \\/\0é\ud800C1"), max_size=12),
    st.sampled_from(["", ".txt", ":field=x", ":weight=2", " + x", "x" * 5000]),
)
def test_any_name_is_a_corpus_or_an_error(name, end):
    spec = f"x{name}{end}"
    assert spec.partition(":")[0] not in named_sources()
    assert isinstance(read_all(spec), UserError)
