"""From a configuration to blocks, and what the cache keeps."""

import io
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import torch
from rich.console import Console

from unmask.base.errors import UserError
from unmask.data.cache import cache_folder, kept
from unmask.data.config import CorpusConfig
from unmask.data.documents import Documents, hold_out
from unmask.data.load import Data, load_data
from unmask.data.sources import open_source


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """The names of documents whose reading begins, as it begins."""
    begun: list[str] = []
    original = Documents.__iter__

    def counted(self):
        begun.append(self.name)
        return original(self)

    monkeypatch.setattr(Documents, "__iter__", counted)
    return begun


def equal(a: Data, b: Data) -> bool:
    same = [
        np.array_equal(x.tokens, y.tokens)
        and (x.lengths is None) == (y.lengths is None)
        and (x.lengths is None or np.array_equal(x.lengths, y.lengths))
        and (x.n_tokens, x.n_bytes) == (y.n_tokens, y.n_bytes)
        for x, y in ((a.train, b.train), (a.valid, b.valid))
    ]
    return all(same) and a.facts == b.facts and a.tokenizer.fingerprint == b.tokenizer.fingerprint


def problem(**options) -> str:
    with pytest.raises(UserError) as caught:
        load_data(CorpusConfig(**options))
    return str(caught.value)


def text_of(blocks) -> bytes:
    return bytes(i for i in blocks.tokens.flatten().tolist() if i < 256)


class TestSplits:
    def test_held_out_documents(self, corpus):
        train, valid = hold_out(open_source(str(corpus)).train, 0.2)
        data = load_data(CorpusConfig(source=str(corpus), valid_fraction=0.2, block_size=2))
        assert data.train.n_bytes == len("".join(train).encode())
        assert data.valid.n_bytes == len("".join(valid).encode())
        assert "".join(valid).encode().startswith(text_of(data.valid)[:-2])
        assert data.facts["train"]["documents"] + data.facts["valid"]["documents"] == 60

    def test_valid_source_takes_all_of_it(self, corpus, tmp_path):
        other = tmp_path / "other.txt"
        other.write_text("something else\nentirely\n")
        data = load_data(
            CorpusConfig(source=str(corpus), valid_source=f"{other}:document=line", block_size=8)
        )
        assert data.facts["train"]["documents"] == 60
        assert data.facts["valid"]["documents"] == 2
        assert data.valid.n_bytes == len("something elseentirely")

    def test_tokenizer_is_trained_on_training_text_alone(self, corpus, tmp_path):
        fingerprints = []
        for text in ("something else", "quite another thing " * 50):
            (tmp_path / "other.txt").write_text(text)
            data = load_data(
                CorpusConfig(
                    source=str(corpus),
                    valid_source=str(tmp_path / "other.txt"),
                    tokenizer="bpe:270",
                    block_size=4,
                )
            )
            fingerprints.append(data.tokenizer.fingerprint)
        assert fingerprints[0] == fingerprints[1]


class TestFacts:
    def test_what_was_read(self, corpus):
        config = CorpusConfig(source=str(corpus), block_size=32)
        data = load_data(config)
        facts = json.loads(json.dumps(data.facts))
        assert facts == data.facts
        assert facts["source"] == str(corpus)
        assert facts["tokenizer"] == "bytes"
        for blocks, found in ((data.train, facts["train"]), (data.valid, facts["valid"])):
            assert found["blocks"] == len(blocks)
            assert found["tokens"] == blocks.n_tokens == blocks.n_bytes + found["documents"]
            assert found["bytes"] == blocks.n_bytes

    def test_sha256_follows_the_text(self, corpus):
        config = CorpusConfig(source=str(corpus), block_size=32)
        first = load_data(config).facts["sha256"]
        assert load_data(config).facts["sha256"] == first
        (corpus / "000.txt").write_text("another text")
        assert load_data(config).facts["sha256"] != first

    def test_bits_per_byte_need_no_text_that_was_cut_off(self, corpus):
        wrap, pad = (
            load_data(CorpusConfig(source=str(corpus), block_size=16, packing=packing))
            for packing in ("wrap", "pad")
        )
        assert wrap.train.n_tokens == pad.train.n_tokens
        assert wrap.train.n_bytes == pad.train.n_bytes
        assert len(pad.train) == pad.facts["train"]["documents"]


class TestBadInput:
    def test_block_size_names_the_largest(self, corpus):
        options = {"source": str(corpus), "valid_source": str(corpus / "000.txt")}
        message = problem(**options, block_size=100_000)
        assert "corpus.block_size 100000" in message
        largest = int(message.rsplit(" ", 1)[1])
        assert len(load_data(CorpusConfig(**options, block_size=largest)).valid) == 1
        assert str(largest) in problem(**options, block_size=largest + 1)

    def test_one_document(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_text("one line only")
        message = problem(source=str(path))
        assert str(path) in message
        assert "corpus.valid_source" in message
        assert "document=" in message

    def test_one_document_is_enough_with_a_valid_source(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_text("one line only")
        data = load_data(CorpusConfig(source=str(path), valid_source=str(path), block_size=4))
        assert data.train.n_tokens == data.valid.n_tokens == 14

    @pytest.mark.parametrize("tokenizer", ["bytes", "bpe:300"])
    def test_broken_text_is_one_error_and_leaves_nothing_behind(self, tmp_path, tokenizer):
        path = tmp_path / "a.jsonl"
        path.write_text('{"text": "fine"}\n{"text": "too"}\n{"text": 3}\n')
        message = problem(source=str(path), valid_source=str(path), tokenizer=tokenizer)
        assert f"{path}, line 3" in message
        assert "'text' is not text but int" in message
        assert not [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]
        assert not list((tmp_path / "cache").rglob(".making*"))

    def test_fields_are_checked(self):
        for bad in (
            {"block_size": 1},
            {"valid_fraction": 0},
            {"valid_fraction": 0.6},
            {"packing": "both"},
        ):
            (name,) = bad
            with pytest.raises(UserError, match=name):
                CorpusConfig(**bad)
        with pytest.raises(UserError, match=r"unknown key 'sauce' \(did you mean 'source'\?\)"):
            CorpusConfig(sauce="x")

    def test_valid_source_is_named(self, corpus):
        message = problem(source=str(corpus), valid_source="nowhere.txt")
        assert "'nowhere.txt'" in message
        assert "valid_source" in message

    def test_cache_that_cannot_be_made(self, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("in the way")
        monkeypatch.setenv("UNMASK_CACHE", str(tmp_path / "file" / "cache"))
        with pytest.raises(UserError, match="set UNMASK_CACHE") as caught:
            cache_folder()
        assert str(tmp_path / "file" / "cache") in str(caught.value)


class TestWarnings:
    """What is odd but can be done is said before the work."""

    @staticmethod
    def said(**options) -> str:
        shown = io.StringIO()
        load_data(CorpusConfig(**options), console=Console(file=shown, width=40))
        return shown.getvalue()

    def test_what_was_found_and_what_is_done_is_a_line_each(self, corpus):
        (corpus / "notes[b].md").write_text("no text")
        lines = self.said(source=str(corpus), block_size=32).splitlines()
        assert lines[0] == f"corpus.source {corpus}: 60 files, 1 skipped (notes[b].md)"
        assert lines[1] == "packing the training text ..."
        assert lines[2].startswith("packing the training text: ") and "documents in" in lines[2]
        assert lines[4].startswith("packing the validation text: ")
        again = self.said(source=str(corpus), block_size=32).splitlines()
        assert again == lines[:1]  # all else comes from the cache

    def test_validation_text_that_is_the_training_text(self, corpus, tmp_path):
        (tmp_path / "copy").symlink_to(corpus)
        for valid in (corpus, tmp_path / "copy"):
            said = self.said(source=str(corpus), valid_source=str(valid), block_size=32)
            assert f"warning: corpus.valid_source {valid} is text that is trained on" in said
        other = corpus / "000.txt"
        assert "warning" not in self.said(
            source=str(corpus), valid_source=str(other), block_size=32
        )

    def test_blocks_that_are_padding(self, corpus):
        said = self.said(source=str(corpus), packing="pad", block_size=5000)
        assert "of the training blocks is padding; the longest document takes" in said
        assert "warning" not in self.said(source=str(corpus), packing="pad", block_size=256)

    def test_one_of_a_thing_is_singular(self, tmp_path):
        (tmp_path / "a.txt").write_text("x")
        (tmp_path / "b.txt").write_text("one line")
        message = problem(source=str(tmp_path / "b.txt"), valid_source=str(tmp_path / "a.txt"))
        assert "(2 tokens)" in message
        assert ": 1 file\n" in self.said(
            source=str(tmp_path / "b.txt"), valid_source=str(tmp_path / "a.txt"), block_size=2
        )

    def test_an_absurd_block_size_is_refused(self):
        with pytest.raises(UserError, match=r"block_size: .*1048576"):
            CorpusConfig(block_size=10**7)


class TestTheEnvironment:
    """A cache that cannot be had is a sentence, and nothing half-made is left in one."""

    @pytest.fixture
    def no_home(self, monkeypatch):
        def fail():
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", fail)

    def test_no_home_is_needed_where_the_cache_is_named(self, no_home, tmp_path, monkeypatch):
        assert cache_folder() == tmp_path / "cache"
        assert cache_folder(tmp_path / "other") == tmp_path / "other"
        monkeypatch.delenv("UNMASK_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert cache_folder() == tmp_path / "xdg" / "unmask"

    def test_no_home_and_no_cache(self, no_home, monkeypatch):
        monkeypatch.delenv("UNMASK_CACHE")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        with pytest.raises(UserError, match=r"no home folder .* set UNMASK_CACHE"):
            cache_folder()

    @pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError("odd")])
    def test_a_full_disk(self, corpus, tmp_path, monkeypatch, error):
        from unmask.data import load

        def full(folder, *_):
            (folder / "tokens.bin").write_bytes(b"half")
            raise error

        monkeypatch.setattr(load, "write_blocks", full)
        message = problem(source=str(corpus))
        assert f"the cache folder {tmp_path / 'cache'} cannot be written" in message
        assert (error.strerror or "odd") in message and "UNMASK_CACHE" in message
        assert not list((tmp_path / "cache").rglob(".making*"))

    def test_a_folder_that_became_read_only(self, corpus, tmp_path, monkeypatch):
        def refuse(self, *_, **__):
            raise PermissionError(30, "Read-only file system", str(self))

        cache_folder()
        monkeypatch.setattr(Path, "mkdir", refuse)
        assert "cannot be written (Read-only file system)" in problem(source=str(corpus))

    def test_an_interrupt_leaves_nothing(self, corpus, tmp_path, monkeypatch):
        from unmask.data import load

        write = load.write_blocks

        def interrupted(folder, *arguments):
            write(folder, *arguments)
            raise KeyboardInterrupt

        monkeypatch.setattr(load, "write_blocks", interrupted)
        with pytest.raises(KeyboardInterrupt):
            load_data(CorpusConfig(source=str(corpus), block_size=32))
        assert list((tmp_path / "cache" / "blocks").iterdir()) == []

    def test_what_a_killed_process_left_is_removed(self, tmp_path):
        code = (
            "import os, sys\n"
            "from pathlib import Path\n"
            "from unmask.data.cache import kept\n"
            "def make(folder):\n"
            "    (folder / 'half').write_text('made')\n"
            "    os.kill(os.getpid(), 9)\n"
            "kept(Path(sys.argv[1]), 'entries/a', whole=lambda f: True, make=make)\n"
        )
        run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], timeout=120, check=False)
        assert run.returncode == -9
        entries = tmp_path / "entries"
        assert len(list(entries.glob(".making*/half"))) == 1
        kept(tmp_path, "entries/b", whole=lambda f: True, make=lambda f: None)
        assert [entry.name for entry in entries.iterdir()] == ["b"]

    def test_what_a_living_process_makes_is_left_alone(self, tmp_path):
        def make(folder: Path) -> None:
            kept(tmp_path, "other", whole=lambda f: True, make=lambda f: None)
            assert folder.is_dir()
            (folder / "whole").write_text("yes")

        assert (kept(tmp_path, "one", whole=lambda f: True, make=make) / "whole").is_file()


class TestCache:
    @pytest.mark.parametrize("tokenizer", ["bytes", "bpe:280"])
    @pytest.mark.parametrize("packing", ["wrap", "pad"])
    def test_second_load_is_equal_and_reads_nothing(self, corpus, reads, tokenizer, packing):
        config = CorpusConfig(
            source=str(corpus), tokenizer=tokenizer, packing=packing, block_size=32
        )
        first = load_data(config)
        assert reads
        reads.clear()
        second = load_data(config)
        assert reads == []
        assert equal(first, second)

    def test_console_changes_nothing(self, corpus, reads):
        config = CorpusConfig(source=str(corpus), tokenizer="bpe:280", block_size=32)
        first = load_data(config)
        reads.clear()
        for terminal in (True, False):
            console = Console(file=io.StringIO(), force_terminal=terminal)
            assert equal(first, load_data(config, console=console))
            assert reads == []

    def test_console_shows_documents(self, corpus, tmp_path):
        config = CorpusConfig(source=str(corpus), block_size=32)
        shown = io.StringIO()
        seen = load_data(config, tmp_path / "a", Console(file=shown, force_terminal=True))
        assert "documents" in shown.getvalue()
        assert equal(seen, load_data(config, tmp_path / "b"))

    @pytest.mark.parametrize(
        "change", [{"block_size": 16}, {"packing": "pad"}, {"valid_fraction": 0.3}]
    )
    def test_other_options_are_other_entries(self, corpus, tmp_path, change):
        config = CorpusConfig(source=str(corpus), block_size=32)
        load_data(config)
        changed = config.model_copy(update=change)
        assert equal(load_data(changed), load_data(changed, tmp_path / "fresh"))
        assert not equal(load_data(changed), load_data(config))

    def test_changed_text_is_read_again(self, corpus, reads):
        config = CorpusConfig(source=str(corpus), block_size=32)
        first = load_data(config)
        reads.clear()
        (corpus / "007.txt").write_text("another text")
        assert reads == []
        assert not equal(first, load_data(config))
        assert reads

    @pytest.mark.parametrize("name", ["tokens.bin", "lengths.bin", "facts.json"])
    def test_damaged_entry_is_made_again(self, corpus, tmp_path, name):
        config = CorpusConfig(source=str(corpus), block_size=32)
        expected = [
            np.array(b.tokens) for b in vars(load_data(config)).values() if hasattr(b, "tokens")
        ]
        files = list((tmp_path / "cache").rglob(name))
        assert len(files) == 2
        for file in files:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        again = load_data(config)
        assert np.array_equal(again.train.tokens, expected[0])
        assert np.array_equal(again.valid.tokens, expected[1])
        assert not list((tmp_path / "cache").rglob(".making*"))

    @pytest.mark.parametrize(
        "facts",
        [
            *("", "{", "[]", "null", "7", '{"blocks": 3}', "[" * 100_000, "\xff"),
            *(
                f'{{"documents": 1, "bytes": 1, "tokens": 1, {rest}}}'
                for rest in (
                    '"blocks": 1, "block_size": 32, "dtype": "x"',
                    '"blocks": "1", "block_size": 2, "dtype": "u2"',
                )
            ),
        ],
    )
    def test_facts_that_say_nothing_are_made_again(self, corpus, tmp_path, facts):
        config = CorpusConfig(source=str(corpus), block_size=32)
        first = load_data(config)
        expected = np.array(first.train.tokens)
        for file in (tmp_path / "cache").rglob("facts.json"):
            file.write_bytes(facts.encode("latin-1"))
        again = load_data(config)
        assert np.array_equal(again.train.tokens, expected) and again.facts == first.facts

    def test_chosen_folder(self, corpus, tmp_path):
        load_data(CorpusConfig(source=str(corpus), block_size=32), tmp_path / "chosen")
        assert list((tmp_path / "chosen").rglob("tokens.bin"))
        assert not (tmp_path / "cache").exists()

    def test_default_folder(self, tmp_path, monkeypatch):
        monkeypatch.delenv("UNMASK_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert cache_folder() == tmp_path / "xdg" / "unmask"
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        assert cache_folder() == tmp_path / "home" / ".cache" / "unmask"

    def test_entries_are_open_to_whom_the_umask_lets(self, corpus, tmp_path):
        umask = os.umask(0o022)
        try:
            load_data(CorpusConfig(source=str(corpus), block_size=32))
        finally:
            os.umask(umask)
        for file in (tmp_path / "cache" / "blocks").rglob("*"):
            assert file.stat().st_mode & 0o044 == 0o044, file


class TestConcurrently:
    def test_threads_that_make_the_same_entry(self, corpus, tmp_path, monkeypatch):
        """Both are in the middle of making it when the other begins."""
        from unmask.data import load

        config = CorpusConfig(source=str(corpus), block_size=32)
        expected = load_data(config, tmp_path / "alone")
        both, write = Barrier(2, timeout=20), load.write_blocks

        def together(*arguments):
            both.wait()
            write(*arguments)
            both.wait()

        monkeypatch.setattr(load, "write_blocks", together)
        with ThreadPoolExecutor(2) as pool:
            loads = [pool.submit(load_data, config, tmp_path / "shared") for _ in range(2)]
            assert all(equal(load.result(timeout=60), expected) for load in loads)
        assert not list((tmp_path / "shared").rglob(".making*"))

    @pytest.mark.slow
    def test_processes(self, corpus, tmp_path):
        """They share a cache, and get what this process gets, whatever their hashes' seeds."""
        config = CorpusConfig(source=str(corpus), block_size=32, tokenizer="bpe:280")
        code = (
            "import sys\n"
            "from unmask.data.config import CorpusConfig\n"
            "from unmask.data.load import load_data\n"
            "data = load_data(CorpusConfig.model_validate_json(sys.argv[1]))\n"
            "print(data.tokenizer.fingerprint, data.train.tokens.astype('int64').sum())"
        )
        command = [sys.executable, "-c", code, config.model_dump_json()]
        runs = [
            subprocess.Popen(
                command,
                env={**os.environ, "PYTHONHASHSEED": seed},
                stdout=subprocess.PIPE,
                text=True,
            )
            for seed in ("1", "2")
        ]
        printed = [run.communicate(timeout=120)[0].split() for run in runs]
        assert [run.returncode for run in runs] == [0, 0]
        data = load_data(config, tmp_path / "alone")
        total = data.train.tokens.astype(np.int64).sum()
        assert printed == [[data.tokenizer.fingerprint, str(total)]] * 2

    def test_a_damaged_entry_replaced_by_many_at_once(self, tmp_path):
        """Each finds the damage, makes the entry, and puts it in place at the same moment."""
        threads = 6
        for attempt in range(30):
            final = tmp_path / f"entry-{attempt}"
            final.mkdir()
            for number in range(20):  # what is removed takes a while
                (final / f"{number}").write_text("damaged")
            together = Barrier(threads, timeout=20)

            def make(folder: Path, together=together) -> None:
                (folder / "whole").write_text("yes")
                together.wait()

            def get(_, attempt=attempt, make=make) -> str:
                key = f"entry-{attempt}"
                found = kept(tmp_path, key, whole=lambda f: (f / "whole").is_file(), make=make)
                return (found / "whole").read_text()

            with ThreadPoolExecutor(threads) as pool:
                assert list(pool.map(get, range(threads))) == ["yes"] * threads
        assert not list(tmp_path.glob(".making*"))


def test_blocks_of_a_batch_come_from_the_cache_file(corpus):
    data = load_data(CorpusConfig(source=str(corpus), block_size=32, packing="pad"))
    x, _ = data.train.batch(torch.arange(3))
    first = sorted(corpus.iterdir())
    held_out = set(hold_out(open_source(str(corpus)).train, 0.05)[1])
    texts = [path.read_text() for path in first if path.read_text() not in held_out]
    assert [bytes(row.tolist()) for row in x] == [text.encode()[:32] for text in texts[:3]]
