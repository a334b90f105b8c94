"""A stream is a sequence of blocks that the seed and the corpus decide, whoever reads it."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from unmask.base.errors import UserError
from unmask.data.config import CorpusConfig
from unmask.data.documents import Shard, first_documents
from unmask.data.lanes import Corpus, Lane, Packing, Place
from unmask.data.load import load_data
from unmask.data.stream import Settings, TextStream, places_in_lanes
from unmask.data.tokenizers import ByteTokenizer

SEPARATOR = ByteTokenizer.separator_id


def shard(texts: list[str], name: str = "a shard") -> Shard:
    return Shard(name, lambda: iter(texts), len(texts))


def numbered(sizes: list[int]) -> list[list[str]]:
    """Shards of so many documents, each another one, of 1 to 30 letters; with empty rows."""
    number = itertools.count()
    return [
        [("" if i % 7 == 3 else f"{next(number)}:{'x' * (i * i % 25)}") for i in range(n)]
        for n in sizes
    ]


def lane_of(
    texts: list[list[str]],
    number: int,
    lanes: int,
    *,
    pad: bool,
    window: int = 5,
    held_out: int = 0,
) -> Lane:
    shards = tuple(shard(some, f"shard {k}") for k, some in enumerate(texts))
    corpus = Corpus("texts", shards, (held_out, *[0] * (len(texts) - 1)))
    return Lane(number, lanes, (corpus,), Packing(ByteTokenizer(), 40, pad, window), seed=3)


def documents_of(lane: Lane, epoch: int) -> list[str]:
    """What a padded lane reads in an epoch."""
    found = []
    for block in lane.blocks(0, [Place()]):
        after = block.after
        of = after.epoch - (after == Place(after.epoch))  # an epoch's last document ends it
        if of > epoch:
            return found
        if of == epoch:
            found.append(bytes(block.tokens[: block.length - 1].tolist()).decode())
    raise AssertionError


@pytest.mark.parametrize("lanes", [1, 2, 3, 8])
@pytest.mark.parametrize("sizes", [[70], [30, 45], [30, 1, 40, 8], [12] * 9])
class TestLanes:
    def test_an_epoch_has_every_document_once(self, sizes, lanes):
        texts = numbered(sizes)
        expected = sorted(text for some in texts for text in some if text)
        held_out = 4
        expected = sorted(text for text in expected if text not in texts[0][:held_out])
        for epoch in (0, 1):
            parts = [
                documents_of(lane_of(texts, k, lanes, pad=True, held_out=held_out), epoch)
                for k in range(lanes)
            ]
            assert sorted(itertools.chain(*parts)) == expected

    def test_each_epoch_has_an_order_of_its_own(self, sizes, lanes):
        lane = lane_of(numbered(sizes), 0, lanes, pad=True)
        first, second = documents_of(lane, 0), documents_of(lane, 1)
        assert first != sorted(first) or len(first) < 8
        assert len(first) < 8 or first != second

    def test_joined_text_is_that_of_the_documents(self, sizes, lanes):
        """Nothing is lost or twice at the edges of blocks, windows, shards and epochs."""
        texts = numbered(sizes)
        for k in range(lanes):
            order = [
                *documents_of(lane_of(texts, k, lanes, pad=True), 0),
                *documents_of(lane_of(texts, k, lanes, pad=True), 1),
            ]
            expected = [i for text in order for i in [*text.encode(), SEPARATOR]]
            lane = lane_of(texts, k, lanes, pad=False)
            blocks = itertools.islice(lane.blocks(0, [Place()]), len(expected) // 40)
            assert [i for block in blocks for i in block.tokens] == expected[
                : len(expected) // 40 * 40
            ]

    @pytest.mark.parametrize("pad", [False, True])
    def test_it_goes_on_from_any_block(self, sizes, lanes, pad):
        lane = lane_of(numbered(sizes), lanes - 1, lanes, pad=pad)
        whole = list(itertools.islice(lane.blocks(0, [Place()]), 60))
        for n in range(1, 50, 7):
            rest = itertools.islice(lane.blocks(n, [whole[n - 1].after]), 60 - n)
            for a, b in zip(rest, whole[n:], strict=True):
                assert a.tokens.tolist() == b.tokens.tolist()
                assert (a.length, a.after) == (b.length, b.after)


def test_memory_does_not_grow_with_the_corpus():
    """A shard without an end is read no further than a window and what is encoded together."""
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        for read in itertools.count(1):
            yield f"document {read}"

    corpus = Corpus("endless", (Shard("endless", endless),), (0,))
    lane = Lane(0, 1, (corpus,), Packing(ByteTokenizer(), 64, True, 100), seed=0)
    for n, _ in enumerate(itertools.islice(lane.blocks(0, [Place()]), 1000), 1):
        assert read <= n + 100 + 64


@pytest.mark.parametrize(("n", "lanes"), [(16, 2), (64, 8), (24, 3), (7, 3), (5, 8), (1, 1)])
def test_steps_take_the_blocks_of_all_lanes_in_turn(n, lanes):
    taken = Counter()
    seen = [set[int]() for _ in range(lanes)]
    for step in range(30):
        lane, number = places_in_lanes(1, step, step * n, n, lanes)
        for k, i in zip(lane.tolist(), number.tolist(), strict=True):
            assert i not in seen[k]
            seen[k].add(i)
            taken[k] += 1
    assert all(numbers == set(range(len(numbers))) for numbers in seen)
    assert max(taken.values()) - min(taken.values()) <= 1
    again = places_in_lanes(2, 0, 0, n, lanes)
    first = places_in_lanes(1, 0, 0, n, lanes)
    assert n < 5 or not (first[0].equal(again[0]) and first[1].equal(again[1]))


class TestStream:
    """With its workers."""

    @staticmethod
    def stream(
        texts: list[list[str]], *, processes: int = 1, lanes: int = 2, log: Path | None = None,
        pad: bool = False, transform: str = "none", weights: tuple[int, ...] = (1,),
    ) -> TextStream:  # fmt: skip
        def read(k: int) -> Iterator[str]:
            if log is not None:
                with log.open("a") as file:
                    file.write(f"{k}\n")
            yield from texts[k]

        def shards(of: int) -> tuple[Shard, ...]:
            mine = range(of, len(texts), len(weights))
            return tuple(Shard(f"shard {k}", lambda k=k: read(k)) for k in mine)

        corpora = [
            Corpus(f"texts {of}", shards(of), (0,) * len(shards(of)), weight)
            for of, weight in enumerate(weights)
        ]
        packing = Packing(ByteTokenizer(), 16, pad, 10)
        return TextStream(corpora, Settings(packing, lanes, transform, processes))

    @staticmethod
    def steps(stream: TextStream, steps: range, n: int, mine: torch.Tensor | None = None) -> list:
        mine = torch.arange(n) if mine is None else mine
        drawn = (stream.step(5, step, n, mine) for step in steps)
        return [(d.batch(mine), d.n_maskable(torch.arange(n))) for d in drawn]

    @staticmethod
    def same(a: list, b: list) -> bool:
        return len(a) == len(b) and all(
            x.equal(y) and (v is w if v is None else v.equal(w)) and m.equal(n)
            for ((x, v), m), ((y, w), n) in zip(a, b, strict=True)
        )

    TEXTS = numbered([40, 40, 40, 40])

    @pytest.mark.parametrize("pad", [False, True])
    def test_blocks_are_the_same_for_any_number_of_workers(self, pad):
        how = {"lanes": 4, "pad": pad, "transform": "shuffle-tokens"}
        one = self.steps(self.stream(self.TEXTS, processes=1, **how), range(9), 7)
        for processes in (2, 3, 4):
            stream = self.stream(self.TEXTS, processes=processes, **how)
            assert self.same(self.steps(stream, range(9), 7), one)

    @pytest.mark.parametrize(
        "lanes",
        [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)],
    )
    def test_processes_take_the_blocks_of_one_and_know_together_where_they_are(self, lanes):
        n = 17  # not the same number of each lane's
        whole = self.stream(self.TEXTS, lanes=lanes)
        everything = self.steps(whole, range(6), n)
        shares = torch.arange(n).tensor_split(3)
        streams = [self.stream(self.TEXTS, lanes=lanes) for _ in shares]
        parts = [self.steps(s, range(6), n, m) for s, m in zip(streams, shares, strict=True)]
        for step, ((x, _), _) in enumerate(everything):
            assert torch.cat([part[step][0][0] for part in parts]).equal(x)
        rows = list[torch.Tensor]()
        for stream in streams:
            stream.position(lambda x: rows.append(x) or x)
        found = streams[0].position(lambda _: torch.cat(rows))["stream"]
        expected = whole.position(lambda x: x)["stream"]
        assert all(found[name].equal(expected[name]) for name in expected)

    def test_processes_divide_the_shards(self, tmp_path):
        logs = [tmp_path / "a", tmp_path / "b"]
        for log, mine in zip(logs, torch.arange(16).tensor_split(2), strict=True):
            self.steps(self.stream(self.TEXTS, log=log), range(3), 16, mine)
        read = [set(log.read_text().split()) for log in logs]
        assert read[0] | read[1] == set("0123") and not read[0] & read[1]

    @pytest.mark.parametrize(("lanes", "weights"), [(1, (1,)), (3, (1,)), (2, (3, 1))])
    @pytest.mark.parametrize("pad", [False, pytest.param(True, marks=pytest.mark.slow)])
    def test_it_goes_on_where_it_was(self, lanes, weights, pad):
        def new() -> TextStream:
            return self.stream(self.TEXTS, lanes=lanes, weights=weights, pad=pad)

        whole = self.steps(new(), range(12), 10)
        stopped = new()
        self.steps(stopped, range(7), 10)
        found = stopped.position(lambda x: x)
        resumed = new()
        resumed.restore(lambda name: {k: v.clone() for k, v in found[name].items()})
        assert self.same(self.steps(resumed, range(7, 12), 10), whole[7:])
        ends = [stream.position(lambda x: x)["stream"] for stream in (resumed, stopped)]
        assert not ends[0]["taken"].equal(ends[1]["taken"])

    def test_a_mixture_by_its_weights(self):
        texts = [["a" * 40] * 9, ["b" * 40] * 9]
        blocks = self.steps(self.stream(texts, weights=(3, 1)), range(5), 16)
        for (x, _), _ in blocks:
            assert (x == ord("a")).any(1).sum() == 12 and (x == ord("b")).any(1).sum() == 4

    @pytest.mark.slow
    def test_more_lanes_than_documents(self):
        with pytest.raises(UserError, match=r"too few documents for corpus.lanes 3.*choose fewer"):
            self.steps(self.stream([["a", "b"]], lanes=3), range(2), 4)

    def test_a_killed_worker_is_one_error(self):
        def read() -> Iterator[str]:
            os.kill(os.getpid(), 9)
            yield "never"

        corpus = Corpus("deadly", (Shard("deadly", read),), (0,))
        stream = TextStream([corpus], Settings(Packing(ByteTokenizer(), 8, False, 4), 1))
        told = pytest.raises(UserError, match="a process that reads the stream has ended")
        with told, stream.reading():
            self.steps(stream, range(1), 2)

    def test_the_beginning_is_measured(self):
        blocks = self.stream(self.TEXTS, weights=(1, 1)).measured()
        text = bytes(i if i < 256 else 32 for i in blocks.tokens[:4].flatten().tolist())
        assert text.startswith(" ".join(filter(None, self.TEXTS[0])).encode()[:60])


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A folder of four files of 30 documents."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for k in range(4):
        rows = [{"text": f"file {k} line {i} " + "and so on " * (i % 5)} for i in range(30)]
        (folder / f"{k}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def streaming(source: Path | str, **options: object) -> CorpusConfig:
    values = {"block_size": 32, "valid_documents": 40, "lanes": 2, "shuffle": 20, **options}
    return CorpusConfig(source=str(source), streaming=True, **values)


class TestLoading:
    def test_the_first_documents_are_validation_text_alone(self, shards):
        data = load_data(streaming(shards, packing="pad", block_size=128))
        assert len(data.valid) == data.facts["valid"]["documents"] == 40
        seen = set()
        mine = torch.arange(16)
        for step in range(8):
            x, _ = data.train.step(0, step, 16, mine).batch(mine)
            seen |= {bytes(i for i in row if i < 256) for row in x.tolist()}
        valid = {bytes(i for i in row if i < 256) for row in data.valid.tokens.tolist()}
        assert len(seen) == 80 and not seen & valid
        assert data.facts["train"] == {"shards": 3}

    def test_a_validation_source(self, shards, tmp_path):
        (tmp_path / "other.txt").write_text("something else\nof two lines, to be validated on\n")
        source = str(tmp_path / "other.txt")
        data = load_data(streaming(shards, valid_source=source, block_size=8))
        assert data.facts["valid"]["documents"] == 2

    @pytest.mark.parametrize("tokenizer", ["bytes", "bpe:270"])
    def test_what_is_measured_and_what_needs_all_of_it(self, shards, tokenizer):
        data = load_data(streaming(shards, tokenizer=tokenizer))
        assert len(data.train.measured()) > 10
        with pytest.raises(UserError, match=r"corpus\.streaming false"):
            _ = data.blocks

    def test_everything_held_out(self, shards):
        with pytest.raises(UserError, match=r"smaller corpus\.valid_documents"):
            load_data(streaming(shards, valid_documents=500))

    def test_another_corpus_is_another_stream(self, shards):
        first = load_data(streaming(shards)).facts["sha256"]
        assert load_data(streaming(shards)).facts["sha256"] == first
        assert load_data(streaming(shards, valid_documents=39)).facts["sha256"] != first
        with (shards / "3.jsonl").open("a") as file:
            file.write('{"text": "one more"}\n')
        assert load_data(streaming(shards)).facts["sha256"] != first

    @pytest.mark.slow
    def test_a_data_set_through_datasets(self, shards):
        spec = f"hf:{shards}"
        config = streaming(spec, packing="pad", block_size=128, lanes=3, processes=3)
        data, files = (
            load_data(config),
            load_data(config.model_copy(update={"source": str(shards)})),
        )
        mine = torch.arange(16)
        for step in range(6):
            x, y = (d.train.step(0, step, 16, mine).batch(mine)[0] for d in (data, files))
            assert x.equal(y)
        assert data.facts["train"] == {"shards": 3}

    def test_first_documents(self):
        shards = [shard(["a", "", "b"]), shard([]), shard(["c", "d"])]
        documents, left = first_documents("x", shards, 3)
        assert list(documents) == ["a", "b", "c"] and left == [(shards[2], 1)]
        assert first_documents("x", shards, 1)[1] == [
            (shards[0], 1),
            (shards[1], 0),
            (shards[2], 0),
        ]
        documents, left = first_documents("x", shards, 9)
        assert list(documents) == ["a", "b", "c", "d"] and left == []
        with pytest.raises(UserError, match="x holds no text"):
            first_documents("x", [shard([""])], 1)


class TestRuns:
    @pytest.fixture
    def options(self, shards: Path, small: list[str]) -> list[str]:
        return [
            *small,
            *("--corpus.source", str(shards), "--corpus.streaming", "--corpus.lanes", "2"),
            *("--corpus.valid-documents", "20", "--corpus.shuffle", "16", "--recipe", "bell"),
            *("--train.save-every", "3", "--validation.every", "4", "--train.keep", "9"),
        ]

    def test_killed_and_resumed_it_is_the_same_run(self, unmask, options, tmp_path):
        whole, parts = tmp_path / "whole", tmp_path / "parts"
        for run in (whole, parts):
            status, text = unmask("train", "--run", run, *options, "--train.steps", 7)
            assert status == 0, text
        for later in (6, 7):  # as after a kill in step 5
            shutil.rmtree(parts / f"checkpoints/step-{later:08}")
        again = ("train", "--run", parts, "--resume", "--corpus.processes", 1)
        status, text = unmask(*again)
        assert status == 0, text
        for name in ("model", "optimizer", "stream"):
            a, b = (
                load_file(r / f"checkpoints/step-00000007/{name}.safetensors")
                for r in (whole, parts)
            )
            assert all(a[key].equal(b[key]) for key in a)
        assert unmask("evaluate", whole)[0] == 0

    @pytest.mark.slow
    def test_a_kill_leaves_no_worker(self, options, tmp_path):
        run = tmp_path / "run"
        # blocks so large that workers wait for room in the pipe
        command = [sys.executable, "-m", "unmask", "train", "--run", str(run), *options]
        command += ["--train.steps", "100000", "--corpus.block-size", "256"]
        training = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + 60
        while not list(run.glob("checkpoints/step-*")) and time.monotonic() < deadline:
            time.sleep(0.1)
        training.kill()
        training.wait()
        while time.monotonic() < deadline:
            try:
                os.killpg(training.pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.2)
        os.killpg(training.pid, signal.SIGKILL)
        pytest.fail("a worker outlives its run")

    @pytest.mark.slow
    def test_a_bell_by_the_beginning_of_the_text(self, unmask, options, tmp_path, shards):
        text = "".join(chr(97 + (i * i + i // 3) % 9) for i in range(9000))
        (shards / "0.jsonl").write_text(
            "".join(json.dumps({"text": text[i : i + 90]}) + "\n" for i in range(0, 9000, 90))
        )
        more = ["--train.steps", 1, "--recipe", "bell:auto"]
        status, said = unmask("train", "--run", tmp_path / "run", *options, *more)
        assert status == 0 and "by the locality of the training text" in said, said

    @pytest.mark.parametrize(
        ("name", "content", "said"),
        [
            ("2.jsonl", b'{"text": "fine"}\n{"text": "br', "2.jsonl, line 2 is not JSON"),
            ("3.parquet", b"PAR1 and no more", "3.parquet cannot be read"),
            ("3.jsonl.gz", b"\x1f\x8b\x08\x00\x00", "3.jsonl.gz cannot be read"),
        ],
    )
    def test_a_damaged_shard_is_one_error(
        self, unmask, options, tmp_path, shards, name, content, said
    ):
        (shards / name).write_bytes(content)
        run = tmp_path / "run"
        status, text = unmask("train", "--run", run, *options, "--train.steps", 40)
        assert status == 2 and said in text and "Traceback" not in text, text
