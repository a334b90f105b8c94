"""An exported run under lm-eval's own command line, through its path for Hugging Face models."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

Call = Callable[..., tuple[int, str]]

pytestmark = pytest.mark.slow


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """A folder with a task of choices on a local file."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    rows = [
        {"question": "the cat sat on", "choices": [" a mat", " one big"], "answer": 0},
        {"question": "and saw one", "choices": [" cat", " big dog"], "answer": 1},
        {"question": "dog run", "choices": [" far the cat", " mat mat"], "answer": 0},
    ]
    data = folder / "choices.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": "local_choices",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc"}],
    }
    (folder / "local_choices.yaml").write_text(yaml.safe_dump(task))
    return folder


def test_the_causal_twin_scores_as_under_our_own_command(
    trained: Callable[..., Path], unmask: Call, tasks: Path, tmp_path: Path
) -> None:
    run, model, out = (
        trained("--recipe", "ar", "--train.steps", "40"),
        tmp_path / "m",
        tmp_path / "o",
    )
    assert unmask("convert", run, "--to", model)[0] == 0
    done = subprocess.run(
        [
            *(sys.executable, "-m", "lm_eval", "--model", "hf", "--device", "cpu"),
            *("--model_args", f"pretrained={model},trust_remote_code=True,dtype=float32"),
            *("--tasks", "local_choices", "--include_path", str(tasks), "--output_path", str(out)),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (results,) = out.rglob("results_*.json")
    found = json.loads(results.read_text())["results"]["local_choices"]["acc,none"]
    status, text = unmask(
        "evaluate", "tasks", run, "local_choices", "--include-path", tasks, "--json"
    )
    assert status == 0, text
    assert found == json.loads(text.splitlines()[0])["tasks"]["local_choices"]["acc"]


@pytest.mark.parametrize("kind", ["denoiser", "causal"])
def test_an_export_is_taken_by_our_own_command(
    kind: str, converted: Callable[[str], tuple[Path, Path]], unmask: Call, tasks: Path
) -> None:
    folder, model = converted(kind)
    results = []
    for name in (folder, model):
        status, text = unmask(
            "evaluate", "tasks", name, "local_choices", "--include-path", tasks, "--json"
        )
        assert status == 0, text
        results.append(json.loads(text.splitlines()[0])["tasks"])
    assert results[0] == results[1]
