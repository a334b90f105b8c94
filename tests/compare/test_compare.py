"""``unmask compare`` end to end on a tiny budget."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from unmask.compare import launch
from unmask.compare.launch import Trial
from unmask.config import Config
from unmask.data.config import CorpusConfig

Call = Callable[..., tuple[int, str]]


@pytest.fixture
def tiny(small: list[str]) -> list[str]:
    return [
        *small,
        *("--train.steps", "20", "--validation.every", "5", "--train.learning-rate", "0.01"),
    ]


def comparison(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "comparison.json").read_text())


def evals(run: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [r for r in lines if r["kind"] == "eval"]


@pytest.mark.usefixtures("in_process", "unrendered")
def test_compare_writes_what_the_contract_says(
    unmask: Call, tiny: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "cmp"
    options = ["--recipes", "standard,bell:std=0.25", "--seeds", 2, "--jobs", 2]
    options += ["--train.steps", 8, "--validation.every", 2]
    status, text = unmask("compare", "--run", folder, *tiny, *options)
    assert status == 0, text
    found = comparison(folder)
    assert found["baseline"] == "standard"
    assert [r["name"] for r in found["recipes"]] == ["standard", "bell:std=0.25"]
    for recipe in found["recipes"]:
        assert [level["percent"] for level in recipe["levels"]] == [25, 50, 75, 100]
        for level in recipe["levels"]:
            assert {
                *("percent", "nelbo", "steps_ratio", "seconds_ratio", "ci_low", "ci_high"),
                "reached",
            } <= set(level)
        assert recipe["final_nelbo"] > 0 and recipe["final_stderr"] > 0
    own = found["recipes"][0]["levels"]
    assert all(level["steps_ratio"] == pytest.approx(1) for level in own)
    assert {"machine", "versions"} <= set(found)
    (folder / "comparison.json").unlink()  # an output, which nothing reads

    page = (folder / "report/index.html").read_text()
    assert "bell:std=0.25" in page and "<svg" in page
    assert list((folder / "report").glob("*.png"))
    (folder / "report/index.html").unlink()
    assert unmask("report", folder)[0] == 0
    status, text = unmask("report", folder, "--format", "json")
    assert status == 0 and json.loads(text) == {"blocks": "all", **found}
    assert (folder / "report/index.html").read_text() == page

    # Within a seed the arms share the initial weights and the evaluation noise.
    for seed in (0, 1):
        starts = [
            evals(folder / r["folder"] / f"seed-{seed}")[0]["nelbo"] for r in found["recipes"]
        ]
        assert starts[0] == starts[1]
    config = yaml.safe_load((folder / "standard/seed-1/config.yaml").read_text())
    assert config["seed"] == 1

    # Finished runs are used again: nothing is trained, and the answer is the same.
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("metrics.jsonl")}
    assert unmask("compare", "--run", folder, *tiny, *options)[0] == 0
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("metrics.jsonl")} == before
    assert comparison(folder) == found

    # Another configuration in the same folder is refused.
    status, text = unmask("compare", "--run", folder, *tiny, *options, "--train.batch-size", 4)
    assert status == 2 and "--train.batch-size: 8 -> 4" in text


@pytest.mark.usefixtures("in_process", "unrendered")
def test_one_diverges_one_never_reaches_the_level_and_the_others_finish(
    unmask: Call, tiny: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "cmp"
    arms = "bell,bell+train.learning_rate=1e30,bell+train.learning_rate=1e-9"
    status, text = unmask("compare", "--run", folder, *tiny, "--recipes", arms, "--jobs", 2)
    assert status == 1
    states = {r["name"]: r["runs"][0]["state"] for r in comparison(folder)["recipes"]}
    assert list(states.values()) == ["done", "diverged", "done"]
    _, diverged, idle = comparison(folder)["recipes"]
    assert diverged["levels"] == [] and "not finite" in text
    assert not idle["levels"][-1]["reached"] and idle["levels"][-1]["steps_ratio"] is None
    assert "not reached" in " ".join(text.replace("│", " ").split())
    assert "one seed" in text and idle["levels"][0]["ci_low"] is None


def test_a_run_is_a_process_of_its_own(tmp_path: Path) -> None:
    corpus = CorpusConfig(source=str(tmp_path / "nowhere.txt"))
    trial = Trial("bell", Config(corpus=corpus), tmp_path / "bell/seed-0")
    with (tmp_path / "said.txt").open("w") as file:
        launch.train_all([trial], 1, Console(file=file))
    said = (tmp_path / "said.txt").read_text()
    assert trial.state == "failed" and "bell, seed 0: failed: error: " in said
    assert "nowhere.txt" in trial.log.read_text() and (tmp_path / "bell/seed-0.yaml").is_file()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1])
def test_a_signal_ends_the_runs_and_the_comparison(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes that save themselves and end, as a run does, at the first signal."""
    code = f"import signal, sys; signal.signal({number:d}, lambda n, _: sys.exit(128 + n));"
    code += "print(1, flush=True); signal.pause()"

    def start(trial: Trial, threads: int) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline()  # its handler is set
        started.append(process)
        if len(started) == 2:
            os.kill(os.getpid(), number)
        return process

    started: list[subprocess.Popen[bytes]] = []
    monkeypatch.setattr(launch, "_start", start)
    trials = [Trial(arm, Config(), tmp_path / arm / "seed-0") for arm in ("a", "b", "c")]
    with pytest.raises(launch.Interrupted) as caught:
        launch.train_all(trials, 2, Console())
    assert caught.value.number == number
    assert [process.returncode for process in started] == [128 + number] * 2


@pytest.mark.slow
def test_killed_half_way_and_repeated(small: list[str], unmask: Call, tmp_path: Path) -> None:
    folder = tmp_path / "cmp"
    steps = 400
    options = [*small, "--train.steps", str(steps), "--validation.every", "50"]
    options += ["--recipes", "standard,bell", "--jobs", "2"]
    command = [sys.executable, "-m", "unmask", "compare", "--run", str(folder), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ})
    metrics = folder / "bell/seed-0/metrics.jsonl"
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and not (metrics.exists() and metrics.stat().st_size > 3000):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT and "repeat" in output
    assert evals(folder / "bell/seed-0")[-1]["step"] < steps
    status, text = unmask("report", folder, "--format", "json")  # as far as it has come
    assert status == 0 and json.loads(text)["recipes"][1]["runs"][0]["state"] == "unfinished"
    done = subprocess.run([*command, "--jobs", "2"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for arm in ("standard", "bell"):
        assert [r["step"] for r in evals(folder / arm / "seed-0")] == list(range(0, steps + 1, 50))


@pytest.mark.usefixtures("in_process", "unrendered")
def test_checkpoints_are_evaluated_afterwards_and_once(
    unmask: Call, tiny: list[str], tmp_path: Path, corpus: Path, judge_folder: Path
) -> None:
    folder, other = tmp_path / "cmp", tmp_path / "other.txt"
    other.write_text("the big cat saw a dog far on one mat. " * 30)
    options = [*tiny, "--train.keep", 9, "--train.save-every", 10, "--recipes", "bell,ar"]
    options += ["--evaluate", "--quality.corpora", other, "--quality.budget", 1000]
    options += ["--quality.num", 3, "--quality.steps", 4]
    status, text = unmask("compare", "--run", folder, *options, "--jobs", 2)
    assert status == 0, text
    files = {arm: folder / arm / "seed-0" / "quality.jsonl" for arm in ("bell", "ar")}

    def found(arm: str) -> list[tuple[int, str]]:
        records = [json.loads(line) for line in files[arm].read_text().splitlines()]
        return [(r["step"], r["kind"]) for r in records]

    for arm in files:
        assert found(arm) == [(10, "corpus"), (20, "corpus")]
    before = {arm: json.loads(path.read_text().splitlines()[0]) for arm, path in files.items()}
    assert before["bell"]["corpus"] == "other.txt" and before["bell"]["nelbo"] > 0
    status, text = unmask(
        "compare", "--run", folder, *options, "--quality.judge", judge_folder, "--jobs", 2
    )
    assert status == 0, text
    for arm, path in files.items():
        assert found(arm) == [
            (10, "corpus"),
            (10, "generative"),
            (20, "corpus"),
            (20, "generative"),
        ]
        records = [json.loads(line) for line in path.read_text().splitlines()]
        assert records[0] == before[arm]  # not measured again
        assert records[1]["ppl"] > 1 and records[1]["entropy"] > 0 and records[1]["text_ppl"] > 1
    assert (folder / "report/generated.png").is_file()
    assert (folder / "report/other_texts.png").is_file()
    page = (folder / "report/index.html").read_text()
    assert str(judge_folder) in page


def test_bad_comparisons(unmask: Call, tiny: list[str], tmp_path: Path) -> None:
    for options, said in (
        (["--recipes", "bell"], "at least two"),
        (["--recipes", "bell,bell+corpus.block_size=16"], "corpus.block_size"),
        (["--seeds", "0"], "--seeds"),
        (["--jobs", "-1"], "--jobs"),
        (["--evaluate"], "quality.corpora"),
        (["--evaluate", "--quality.corpora", "nowhere.txt"], "nowhere.txt"),
        (["--evaluate", "--quality.judge", "x", "--quality.num", "1"], "quality.num"),
        (["--evaluate", "--quality.judge", "x/y.gguf"], "cannot load judge"),
        (["--evaluate", "--quality.corpora", "a/x.txt", "b/x.txt"], "two have one name"),
        (["--corpus.source", "nowhere"], "nowhere"),
    ):
        status, text = unmask("compare", "--run", tmp_path / "c", *tiny, *options)
        assert status == 2 and said in text, text
        assert not (tmp_path / "c").exists()
    status, text = unmask("report", tmp_path)
    assert status == 2 and "neither plan.json nor comparison.json" in text
