"""Texts are encoded by several processes as by one, and the user is told how long it takes."""

import gzip
import io
import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from unmask.base.errors import UserError
from unmask.data.blocks import write_blocks
from unmask.data.documents import Documents, joined
from unmask.data.encode import encoded
from unmask.data.progress import Display
from unmask.data.sources import open_source
from unmask.data.tokenizers import ByteTokenizer, hub_tokenizer


class Elsewhere(ByteTokenizer):
    """Bytes, encoded in other processes than the one that made it."""

    worth_processes = True
    unknown_ids = (ord("q"),)

    def __init__(self) -> None:
        self.home = os.getpid()

    def encode(self, texts):
        assert len(texts) == 1 or os.getpid() != self.home
        if texts[0] == "poison":
            os.kill(os.getpid(), 9)
        if texts[0] == "refused":
            raise UserError("corpus.tokenizer: it cannot encode a text")
        return super().encode(texts)


@pytest.fixture
def texts(monkeypatch) -> list[str]:
    """Texts that are 10 groups and more."""
    monkeypatch.setattr("unmask.data.encode._DOCUMENTS_AT_A_TIME", 20)
    chance = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz     éß漢"
    return ["".join(chance.choices(letters, k=chance.randrange(1, 90))) for _ in range(230)]


@pytest.mark.parametrize("packing", ["wrap", "pad"])
def test_files_are_the_same_for_any_number_of_processes(
    texts, tmp_path, tokenizer_folders, packing
):
    tokenizer = hub_tokenizer(str(tokenizer_folders["wordpiece"]))
    written = []
    for processes in (1, 2, 3):
        folder = tmp_path / str(processes)
        folder.mkdir()
        write_blocks(folder, texts, tokenizer, 16, packing, processes)
        written.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert written[0] == written[1] == written[2]
    facts = json.loads(written[0]["facts.json"])
    assert facts["documents"] == len(texts) and facts["unknown_tokens"] > 0


def test_they_are_other_processes_in_the_order_of_the_texts(texts):
    tokenizer = Elsewhere()
    groups = list(encoded(texts, tokenizer, 2))
    found = [ids for group in groups for ids in group.documents()]
    expected = ByteTokenizer().encode(texts)
    assert len(groups) == 12
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    assert sum(group.n_bytes for group in groups) == len("".join(texts).encode())
    assert sum(group.n_unknown for group in groups) == "".join(texts).count("q")
    with pytest.raises(AssertionError):
        list(encoded(texts, tokenizer, 1))


def test_texts_are_not_read_far_ahead(texts):
    read = 0

    def documents():
        nonlocal read
        for read, text in enumerate(texts * 20, 1):  # noqa: B007
            yield text

    next(encoded(documents(), Elsewhere(), 2))
    assert read <= 14 * 20


@pytest.mark.parametrize(
    ("text", "said"), [("poison", "corpus.processes below 2"), ("refused", "cannot encode")]
)
def test_what_goes_wrong_in_a_process_is_one_error(texts, text, said):
    texts[100] = text
    with pytest.raises(UserError, match=said):
        list(encoded(texts, Elsewhere(), 2))


def test_short_texts_start_no_process(texts, monkeypatch):
    monkeypatch.setattr("unmask.data.encode.ProcessPoolExecutor", None)
    tokenizer = Elsewhere()
    tokenizer.home = -1
    assert len(list(encoded(texts[:140], tokenizer, 2))) == 7


class TestProgress:
    @pytest.fixture
    def files(self, tmp_path: Path) -> Path:
        folder = tmp_path / "shards"
        folder.mkdir()
        rows = "".join(json.dumps({"text": f"{i} " * 40}) + "\n" for i in range(3000))
        (folder / "a.jsonl").write_text(rows)
        (folder / "b.jsonl.gz").write_bytes(gzip.compress(os.urandom(0) + rows.encode(), 1))
        (folder / "c.txt").write_text("one line\n" * 20_000)
        return folder

    def test_the_part_that_is_read(self, files):
        documents = open_source(str(files)).train
        for _ in range(2):  # a second reading begins at 0 again
            parts = []
            for _ in documents:
                parts.append(documents.read_part())
            assert parts[0] < 0.7 and parts[-1] > 0.9
            assert parts == sorted(parts) and len(set(parts)) > 2
            assert max(parts) <= 1

    def test_of_several_and_where_it_is_not_known(self, files):
        known = open_source(str(files / "c.txt")).train
        both = joined([known, open_source(str(files / "a.jsonl")).train])
        parts = [both.read_part() for _ in both]
        assert parts[0] < 0.5 and parts[-1] > 0.9 and parts == sorted(parts)
        other = Documents("x", "x", lambda: iter(["a"]))
        assert other.read_part() is None and joined([other, other]).read_part() is None

    def test_a_log_says_how_long_it_will_take(self, files, monkeypatch):
        monkeypatch.setattr("unmask.data.progress._FIRST_LINE", 1e-4)
        shown = io.StringIO()
        with Display(Console(file=shown, width=200)).stage("packing") as watch:
            for _ in watch(open_source(str(files)).train):
                pass
        lines = shown.getvalue().splitlines()
        assert lines[0] == "packing ..."
        assert "% after " in lines[1] and lines[1].endswith("s left")
        assert lines[-1].startswith("packing: 26,000 documents in ")
        assert len(lines) < 20

    def test_a_terminal_shows_a_bar_with_the_time_left(self, files):
        shown = io.StringIO()
        console = Console(file=shown, width=200, force_terminal=True, force_interactive=True)
        with Display(console).stage("packing [b]") as watch:
            documents = iter(watch(open_source(str(files)).train))
            for _ in range(4000):
                next(documents)
            console.print("now")  # draws the bar anew
        assert "packing [b]" in shown.getvalue() and "documents" in shown.getvalue()
        assert "left" in shown.getvalue() and "━" in shown.getvalue()


def test_a_run_goes_on_with_another_number_of_processes(unmask, small, tmp_path):
    run = tmp_path / "run"
    assert unmask("train", "--run", run, *small, "--train.steps", 2)[0] == 0
    again = ("train", "--run", run, "--resume", "--train.steps", 3, "--corpus.processes", 1)
    status, text = unmask(*again)
    assert status == 0, text
