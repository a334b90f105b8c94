"""Tasks of lm-eval on exported runs: by its own command line, and by ours."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from unmask.run import Run, open_run

pytest.importorskip("lm_eval")
pytestmark = pytest.mark.slow

Call = Callable[..., tuple[int, str]]
Convert = Callable[..., tuple[Path, Path]]
QUESTIONS = [
    ("the cat", " sat", " sa", " dog"),
    ("saw one", " big", " mat", " xyz"),
    ("the cat sat on", " a", " q", " the"),
    ("one big", " dog", " far", " on"),
    ("a mat", " and", " or", " but"),
    ("run far", " the", " one", " an"),
]


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """A folder with a task of choices on a local file."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    lines = [{"context": context, "choices": choices} for context, *choices in QUESTIONS]
    (folder / "choice.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = {
        "task": "local_choice",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "choice.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{context}}",
        "doc_to_choice": "choices",
        "doc_to_target": 0,
        "target_delimiter": "",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    (folder / "choice.yaml").write_text(yaml.safe_dump(config))
    return folder


def scores(unmask: Call, folder: Path, tasks: Path) -> dict[str, float]:
    """What ``unmask evaluate tasks`` measures."""
    options = ("--include-path", tasks, "--device", "cpu", "--json", "--draws", 4)
    status, text = unmask("evaluate", "tasks", folder, "local_choice", *options)
    assert status == 0, text
    (line,) = (line for line in text.splitlines() if line.startswith('{"tasks"'))
    found: dict[str, float] = json.loads(line)["tasks"]["local_choice"]
    return found


@torch.no_grad()
def log_likelihood(run: Run, context: str, continuation: str) -> float:
    """Of a continuation in nats, by the run's own network."""
    x = torch.tensor([[*(context + continuation).encode()]])
    logp = run.model.head(run.model(x)).log_softmax(-1).gather(2, x[..., None])
    return float(logp[0, len(context.encode()) :].sum())


def test_lm_eval_s_own_command_line_scores_an_autoregressive_export(
    converted: Convert, unmask: Call, tasks: Path, tmp_path: Path
) -> None:
    """In a process of its own, by the code that travels along: the run's own likelihoods."""
    run, model = converted("causal")
    out = tmp_path / "out"
    command = [
        *(sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--device", "cpu"),
        *("--model_args", f"pretrained={model},trust_remote_code=True", "--batch_size", "1"),
        *("--tasks", "local_choice", "--include_path", str(tasks), "--output_path", str(out)),
        "--log_samples",
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (results,) = out.rglob("results_*.json")
    accuracy = json.loads(results.read_text())["results"]["local_choice"]["acc,none"]
    (samples,) = out.rglob("samples_*.jsonl")
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    opened, right = open_run(run), 0
    for line, (context, *choices) in zip(lines, QUESTIONS, strict=True):
        nats = [log_likelihood(opened, context, choice) for choice in choices]
        found = [float(value) for ((value, _),) in line["resps"]]
        assert found == pytest.approx(nats, abs=1e-4)
        right += nats[0] == max(nats)
    assert accuracy == right / len(QUESTIONS)


@pytest.mark.parametrize("kind", ["denoiser", "late"])
def test_our_command_scores_a_masked_export_like_its_run(
    converted: Convert, unmask: Call, tasks: Path, kind: str
) -> None:
    run, model = converted(kind)
    found = scores(unmask, run, tasks)
    assert found == scores(unmask, model, tasks) and 0 <= found["acc"] <= 1
