"""Whether a corpus is still the one that a run was trained on is asked in one place."""

import json
import re
from pathlib import Path

import pytest

import unmask
from unmask.base.errors import UserError
from unmask.data.config import CorpusConfig
from unmask.data.load import load_data
from unmask.data.recorded import RECORD, check_same_corpus, recorded_facts


def test_the_same_corpus_passes_and_another_is_named(corpus, tmp_path):
    config = CorpusConfig(source=str(corpus), block_size=32)
    facts = load_data(config).facts
    (tmp_path / RECORD).write_text(json.dumps(facts))
    assert recorded_facts(tmp_path) == facts
    check_same_corpus(tmp_path, load_data(config).facts)
    (corpus / "003.txt").write_text("another text")
    now = load_data(config)
    with pytest.raises(UserError) as caught:  # though a tokenizer of bytes is the same for any text
        check_same_corpus(tmp_path, now.facts)
    for words in (str(corpus), str(tmp_path), facts["sha256"][:12], now.facts["sha256"][:12]):
        assert words in str(caught.value)


@pytest.mark.parametrize(
    "record",
    ["", "{}", "[]", "null", '{"sha256": 7}', "{", "[" * 100_000, "\xff", '{"sha256": null}'],
    ids=lambda record: record[:8],
)
def test_a_damaged_record_is_one_error(tmp_path, record):
    (tmp_path / RECORD).write_bytes(record.encode("latin-1"))
    with pytest.raises(UserError, match="is damaged") as caught:
        check_same_corpus(tmp_path, {"source": "x", "sha256": "y"})
    assert str(tmp_path / RECORD) in str(caught.value)


def test_no_record_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*: No such file"):
        recorded_facts(tmp_path)


def test_it_is_asked_nowhere_else():
    """No other file compares a recorded hash with a corpus's."""
    package = Path(unmask.__file__).parent
    found = [
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(r"""\[["']sha256["']\]\s*!=|fingerprint\s*!=""", path.read_text())
    ]
    assert found == []
    assert "then != now" in (package / "data" / "recorded.py").read_text()


@pytest.mark.parametrize("command", ["evaluate", "analyze locality", "train"])
def test_a_run_whose_text_has_changed(command, corpus, small, unmask, tmp_path):
    run = tmp_path / "run"
    status, text = unmask("train", "--run", run, *small, "--recipe", "bell", "--train.steps", 2)
    assert status == 0, text
    for number in range(60):
        (corpus / f"{number:03}.txt").write_text(f"quite another text, number {number}")
    arguments = ["--run", run, "--resume"] if command == "train" else [run]
    status, text = unmask(*command.split(), *arguments)
    assert status == 2, text
    assert "is no longer what the run" in " ".join(text.split())
    assert "packing" not in text  # it is told before
