"""Names of the hub through the real libraries, from a hub on this machine."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from test_processes import assert_the_same_run, records

from hub_server import Hub

pytestmark = pytest.mark.slow
BAD_INPUT = 2
FILES, ROWS = 4, 30

CHILD = """
import json, os, sys, time
sleep = time.sleep
time.sleep = lambda seconds: sleep(min(seconds, 0.05))  # between one attempt and the next
import datasets, torch, transformers
import unmask.run
from unmask.cli import main
from unmask.data.config import CorpusConfig
from unmask.data.load import load_data
from unmask.train.processes import Processes

torch.set_num_threads(1)
datasets.config.STREAMING_READ_MAX_RETRIES = datasets.config.STREAMING_OPEN_MAX_RETRIES = 3

def documents(source, packing, rank, size, steps, n):
    config = CorpusConfig(source=source, streaming=True, packing=packing, block_size=128, lanes=2)
    stream, mine = load_data(config).train, Processes(rank, size).share(n)
    for step in range(steps):
        rows, _ = stream.step(0, step, n, mine).batch(mine)
        print(*(bytes(i for i in row if i < 256).decode() for row in rows.tolist()), sep="\\n")

def run(function, *words):
    return main([*words]) if function == "main" else globals()[function](*words) or 0

for line in sys.stdin:
    call, children = json.loads(line), []
    for environment in call["processes"]:
        if (pid := os.fork()) == 0:
            os.environ |= environment
            out = os.open(call["out"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(out, 1), os.dup2(out, 2)
            status = run(*call["words"])
            sys.stdout.flush()
            os._exit(status)
        children.append(pid)
    ended = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    print(json.dumps(ended), flush=True)
"""
"""A process that has imported everything with the hub's address, and forks for every call."""


class Child:
    """Calls of ``unmask`` in processes that know the hub."""

    def __init__(self, hub: Hub, folder: Path) -> None:
        environment = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}
        environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hf"), "HF_TOKEN": ""}
        environment |= {"UNMASK_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
        environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "no_proxy": "127.0.0.1"}
        self._out = folder / "out"
        self._process = subprocess.Popen(
            [sys.executable, "-c", CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def __call__(self, *words: Any, size: int = 1) -> tuple[list[int], str]:
        """The exit status of each of some processes of a call, and what all printed."""
        processes = [
            {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
            | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(20_000 + os.getpid() % 10_000)}
            for rank in range(size if size > 1 else 0)
        ]
        self._out.write_text("")
        call = {"words": words, "processes": processes or [{}], "out": str(self._out)}
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(call, default=str) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline()), self._out.read_text()

    def train(self, *words: object, size: int = 1) -> tuple[list[int], str]:
        return self("main", "train", *map(str, words), size=size)

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    hub = Hub(tmp_path_factory.mktemp("hub"))
    yield hub
    hub.close()


@pytest.fixture(scope="module")
def child(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    child = Child(hub, tmp_path_factory.mktemp("child"))
    yield child
    child.close()


def text(file: int, number: int) -> str:
    return f"file {file} line {number}:{' and so on' * (number % 5)}"


def write(path: Path, file: int, rows: int = ROWS) -> None:
    texts = [{"text": text(file, i)} for i in range(rows)]
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(texts), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in texts))


@pytest.fixture(params=["parquet", "jsonl"])
def dataset(hub: Hub, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A repository, called as its folder is."""
    folder = hub.root / "datasets/org" / tmp_path.name
    (folder / "data").mkdir(parents=True)
    for k in range(FILES):
        write(folder / f"data/train-{k:05}-of-00004.{request.param}", k)
    write(folder / f"data/validation-00000-of-00001.{request.param}", 9)
    yield folder
    shutil.rmtree(folder)


Options = Callable[..., list[object]]


@pytest.fixture
def options(small: list[str]) -> Options:
    def of(source: str, steps: int) -> list[object]:
        how = ["--corpus.streaming", "--corpus.lanes", 2, "--train.batch-size", 16]
        how += ["--recipe", "bell", "--train.save-every", 4, "--validation.every", 4]
        how += ["--train.learning-rate", 1e-3, "--train.steps", steps]
        return [*small, "--corpus.source", source, *how]

    return of


def named(dataset: Path, more: str = "") -> str:
    return f"hf:org/{dataset.name}:valid=validation{more}"


def test_a_stream_from_the_hub_is_that_of_its_files_in_any_number_of_processes(
    dataset: Path, child: Child, hub: Hub, options: Options, tmp_path: Path
) -> None:
    alone, several, files = tmp_path / "alone", tmp_path / "several", tmp_path / "files"
    status, told = child.train("--run", alone, *options(named(dataset), 8))
    assert status == [0], told
    status, told = child.train(
        "--run", files, *options(f"hf:{dataset}:valid=validation", 8), "--corpus.processes", 1
    )
    assert status == [0], told
    assert records(alone) == records(files)
    status, told = child.train("--run", several, *options(named(dataset), 4), size=2)
    assert status == [0, 0], told
    status, told = child.train("--run", several, "--resume", "--train.steps", 8)
    assert status == [0], told
    assert_the_same_run(alone, several, 8)


def test_two_processes_share_a_dataset_without_overlap_or_loss(
    dataset: Path, child: Child, hub: Hub
) -> None:
    found, asked = list[str](), list[str]()
    for rank in range(2):
        status, told = child("documents", named(dataset), "pad", rank, 2, 5, FILES * ROWS // 5)
        assert status == [0], told
        found += told.splitlines()
    assert sorted(found) == sorted(text(k, i) for k in range(FILES) for i in range(ROWS))
    for rank in range(2):
        before = len(hub.asked)
        status, told = child("documents", named(dataset), "wrap", rank, 2, 5, 16)
        assert status == [0], told
        asked.append(" ".join(hub.asked[before:]))
    read = [{k for k in range(1, FILES) if f"train-{k:05}" in every} for every in asked]
    assert read == [{2}, {1, 3}]  # file 0 is looked at by all, for its fields


def test_another_commit_is_another_corpus_and_the_old_one_goes_on_by_its_name(
    dataset: Path, child: Child, hub: Hub, options: Options, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    sha, _ = hub.files("datasets", f"org/{dataset.name}", "main") or ("", {})
    assert child.train("--run", run, *options(named(dataset), 4))[0] == [0]
    changed = next((dataset / "data").glob("train-00002*"))
    write(changed, 7)  # no other size and no other names
    status, told = child.train("--run", run, "--resume", "--train.steps", 6)
    assert status == [BAD_INPUT]
    assert told.count("is no longer what the run") == 1 and "Traceback" not in told
    config = run / "config.yaml"
    config.write_text(
        config.read_text().replace(named(dataset), named(dataset, f",revision={sha}"))
    )
    status, told = child.train("--run", run, "--resume", "--train.steps", 6)
    assert status == [0], told


def test_a_hub_that_goes_away_is_one_sentence_and_back_again_the_run_goes_on(
    dataset: Path, child: Child, hub: Hub, options: Options, tmp_path: Path
) -> None:
    for k in range(FILES):
        write(next((dataset / "data").glob(f"train-{k:05}*")), k, 300)
    run, whole = tmp_path / "run", tmp_path / "whole"
    short = [*options(named(dataset), 100_000), "--corpus.valid-documents", 30]
    before = sum("GET" in line and "/train-" in line for line in hub.asked)
    hub.left = 8
    status, told = child.train("--run", run, *short)
    assert status == [BAD_INPUT], told
    assert told.count("error:") == 1 and "Traceback" not in told, told
    assert sum("GET" in line and "/train-" in line for line in hub.asked) - before < 500
    hub.left = None
    end = 4 + max(int(f.name.split("-")[1]) for f in (run / "checkpoints").iterdir())
    status, told = child.train("--run", run, "--resume", "--train.steps", end)
    assert status == [0], told
    assert child.train("--run", whole, *short, "--train.steps", end)[0] == [0]
    assert records(run) == records(whole)


def test_a_tokenizer_and_a_model_by_their_names(
    child: Child, hub: Hub, options: Options, corpus: Path, judge_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(judge_folder, hub.root / "models/org/judge")
    files = ["--corpus.source", corpus, "--corpus.block-size", 8]
    alone = ["--corpus.tokenizer", "org/judge", *files, "--corpus.valid-documents", 9]
    status, told = child.train("--run", tmp_path / "a", *options("", 2), *alone)
    assert status == [0], told
    status, told = child.train(
        "--run", tmp_path / "b", "--init", "org/judge", *files, "--train.steps", 2
    )
    assert status == [0], told
    assert any("models" not in line and "org/judge/resolve" in line for line in hub.asked)
