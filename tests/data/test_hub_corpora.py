"""Datasets through the real `datasets`, from local folders and without a network."""

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from unmask.base.errors import UserError
from unmask.base.spec import build
from unmask.data.config import CorpusConfig
from unmask.data.hub import PRESETS, HubOptions
from unmask.data.load import load_data
from unmask.data.sources import named_sources, open_source

TRAIN = [f"training document {number} é" for number in range(30)]
VALID = [f"validation document {number}" for number in range(5)]


def write_rows(path: Path, texts: list, field: str = "text") -> None:
    path.parent.mkdir(exist_ok=True)
    rows = [{"id": number, field: text} for number, text in enumerate(texts)]
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(params=[".parquet", ".jsonl"])
def dataset(tmp_path, request) -> Path:
    """A folder with a training and a validation split."""
    folder = tmp_path / "dataset"
    write_rows(folder / f"train{request.param}", TRAIN)
    write_rows(folder / f"validation{request.param}", VALID)
    return folder


@pytest.fixture
def rows(tmp_path) -> Path:
    """A folder with a training split, its text in ``body``."""
    write_rows(tmp_path / "rows" / "train.jsonl", TRAIN, "body")
    return tmp_path / "rows"


def problem(spec: str) -> str:
    with pytest.raises(UserError) as caught:
        list(open_source(spec).train)
    return str(caught.value)


class TestLocalFolder:
    def test_training_split(self, dataset):
        source = open_source(f"hf:{dataset}")
        assert list(source.train) == TRAIN
        assert list(source.train) == TRAIN  # and again
        assert source.valid is None

    def test_validation_split(self, dataset):
        source = open_source(f"hf:{dataset}:valid=validation")
        assert list(source.train) == TRAIN
        assert source.valid is not None
        assert list(source.valid) == VALID
        assert source.valid.identity != source.train.identity

    def test_other_split_and_slice(self, dataset):
        assert list(open_source(f"hf:{dataset}:split=validation").train) == VALID
        assert list(open_source(f"hf:{dataset}:split=train[:7]").train) == TRAIN[:7]

    def test_field(self, rows):
        assert list(open_source(f"hf:{rows}:field=body").train) == TRAIN

    def test_nested_field(self, tmp_path):
        rows = [json.dumps({"meta": {"body": text}}) for text in TRAIN]
        (tmp_path / "nested").mkdir()
        (tmp_path / "nested" / "train.jsonl").write_text("\n".join(rows))
        assert list(open_source(f"hf:{tmp_path / 'nested'}:field=meta.body").train) == TRAIN
        message = problem(f"hf:{tmp_path / 'nested'}:field=meta.text")
        assert "row 1" in message and "its fields: meta.body" in message

    def test_identity_follows_the_contents(self, dataset):
        first = open_source(f"hf:{dataset}").train.identity
        assert open_source(f"hf:{dataset}").train.identity == first
        suffix = next(dataset.iterdir()).suffix
        write_rows(dataset / f"train{suffix}", [*TRAIN, "one more"])
        changed = open_source(f"hf:{dataset}").train
        assert changed.identity != first
        assert list(changed) == [*TRAIN, "one more"]

    def test_empty_texts_are_left_out(self, tmp_path):
        write_rows(tmp_path / "d" / "train.jsonl", ["a", "", "b"])
        assert list(open_source(f"hf:{tmp_path / 'd'}").train) == ["a", "b"]

    def test_load_data_takes_the_validation_split(self, dataset):
        spec = f"hf:{dataset}:valid=validation"
        data = load_data(CorpusConfig(source=spec, block_size=16))
        assert data.train.n_bytes == len("".join(TRAIN).encode())
        assert data.valid.n_bytes == len("".join(VALID).encode())


class TestPresets:
    @pytest.mark.parametrize("name", PRESETS)
    def test_options_are_valid(self, name):
        options = build(HubOptions, PRESETS[name], name)
        assert "/" in options.name
        assert name in named_sources()
        assert options.split != options.valid

    def test_a_new_one_is_one_row(self, dataset, monkeypatch):
        table = {"name": str(dataset), "valid": "validation"}
        monkeypatch.setitem(PRESETS, "mine", table)
        source = open_source("mine")
        assert source.valid is not None
        assert (list(source.train), list(source.valid)) == (TRAIN, VALID)
        assert list(open_source("mine:split=validation").train) == VALID
        with pytest.raises(UserError, match=r"valid: .*mine"):
            open_source("mines")

    def test_options_override_the_table(self, rows, monkeypatch):
        table = {"name": str(rows), "split": "nowhere", "field": "text"}
        monkeypatch.setitem(PRESETS, "mine", table)
        assert list(open_source("mine:split=train,field=body").train) == TRAIN


class TestBadInput:
    @pytest.mark.parametrize("spec", ["tinystories", "hf:nobody/no-such-dataset"])
    def test_unreachable(self, spec):
        message = problem(spec)
        assert PRESETS.get(spec, {}).get("name", "nobody/no-such-dataset") in message
        assert "of the dataset" in message and "cannot load" in message
        assert "as a path" in message

    def test_a_mistyped_folder_is_not_looked_for(self, dataset):
        message = problem(f"hf:{str(dataset)[:-1]}")
        assert "no file or folder" in message and str(dataset) in message

    def test_unknown_split(self, dataset):
        message = problem(f"hf:{dataset}:split=dev")
        assert str(dataset) in message
        assert "dev" in message
        assert "validation" in message  # one that there is

    def test_unknown_validation_split(self, dataset):
        message = problem(f"hf:{dataset}:valid=dev")
        assert str(dataset) in message
        assert "dev" in message

    def test_missing_field(self, rows):
        message = problem(f"hf:{rows}")
        assert str(rows) in message
        assert "'text'" in message
        assert "id, body" in message

    def test_field_that_is_not_text(self, rows):
        message = problem(f"hf:{rows}:field=id")
        assert "row 1" in message
        assert "'id' is not text but int" in message

    def test_rows_without_a_text(self, tmp_path):
        write_rows(tmp_path / "d" / "train.parquet", ["a", None, "b"])
        message = problem(f"hf:{tmp_path / 'd'}")
        assert "row 2" in message
        assert "'text' is not text" in message

    def test_damaged_file(self, tmp_path):
        write_rows(tmp_path / "d" / "train.parquet", TRAIN)
        file = tmp_path / "d" / "train.parquet"
        file.write_bytes(file.read_bytes()[:-9])
        message = problem(f"hf:{tmp_path / 'd'}")
        assert str(tmp_path / "d") in message
        assert "of the dataset" in message and "cannot load" in message

    def test_unknown_option(self, dataset):
        message = problem(f"hf:{dataset}:feild=body")
        assert "'feild'" in message
        assert "field" in message.split("valid:")[1]
        assert "revision" in message

    def test_no_name(self):
        assert "hf:NAME" in problem("hf:")
        assert "hf:NAME" in problem("hf")

    def test_name_is_no_option(self):
        assert "hf:NAME" in problem("tinystories:name=other")
        assert "'split' is given twice" in problem("tinystories:split=a,split=b")
