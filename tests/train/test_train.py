"""What training promises: it learns, it resumes bit for bit, micro-batches change nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from unmask.base.files import locked
from unmask.data.blocks import Blocks
from unmask.data.load import load_data
from unmask.recipe.parse import RECIPES
from unmask.run import open_run
from unmask.train.validation import validate

Call = Callable[..., tuple[int, str]]

MIXED = [f"bell:next-token=0.3,mix={mix}" for mix in ("batch", "steps")]
SLOW_MIXED = [pytest.param(recipe, marks=pytest.mark.slow) for recipe in ("fast", MIXED[1])]


def weights(run: Path, step: int, name: str = "model") -> dict[str, torch.Tensor]:
    return load_file(run / f"checkpoints/step-{step:08d}/{name}.safetensors")


def evals(run: Path) -> list[dict]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in r.items() if k != "seconds"} for r in lines if r["kind"] == "eval"]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


SLOWLY = [pytest.param(recipe, 450, marks=pytest.mark.slow) for recipe in (*RECIPES, *MIXED)]


@pytest.mark.parametrize(("recipe", "steps"), [("fast", 200), *SLOWLY])
def test_every_recipe_learns(
    recipe: str, steps: int, unmask: Call, small: list[str], tmp_path: Path
) -> None:
    """Below the unigram entropy of the validation text: it has learned to use context."""
    run = tmp_path / "run"
    options = ["--train.steps", steps, "--validation.every", steps, "--train.learning-rate", 0.01]
    options += ["--validation.draws", 8, "--recipe", recipe]
    status, text = unmask("train", "--run", run, *small, *options)
    assert status == 0, text
    opened = open_run(run)
    unigram = load_data(opened.config.corpus).valid.unigram_entropy()
    last = evals(run)[-1]
    assert last["nelbo"] + 4 * last["stderr"] < unigram - 0.2


@pytest.mark.parametrize(
    ("recipe", "phases"),
    [
        ("fast", ["causal"] * 3 + ["masked"] * 9),
        (MIXED[0], ["mixed"] * 12),
        *(
            pytest.param(recipe, phases, marks=pytest.mark.slow)
            for recipe, phases in (
                ("narrow:next-token=1@0.5/0@0.5", ["causal"] * 6 + ["masked"] * 6),
                ("narrow:uniform=0@0.3/1@1", ["masked"] * 12),
                ("mirror", ["masked"] * 12),
                ("puma", ["masked"] * 12),
                (MIXED[1], None),
            )
        ),
    ],
)
def test_a_recipe_that_changes_over_training_resumes_in_its_phase(
    recipe: str, phases: list[str] | None, unmask: Call, small: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    options = [*small, "--train.steps", 12, "--validation.every", 4, "--train.keep", 9]
    assert unmask("train", "--run", run, *options, "--recipe", recipe)[0] == 0
    finished = open_run(run).checkpoint.tensors("model")
    record = (run / "metrics.jsonl").read_text()
    found = [r["phase"] for r in map(json.loads, record.splitlines()) if r["kind"] == "train"]
    assert found == phases if phases else 3 <= found.count("causal") <= 5
    for step in (8, 12):
        shutil.rmtree(run / f"checkpoints/step-{step:08}")
    status, text = unmask("train", "--run", run, "--resume")
    assert status == 0, text
    assert same(open_run(run).checkpoint.tensors("model"), finished)


FITTED = [
    pytest.param(name, marks=[] if name == "adaptive" else [pytest.mark.slow])
    for name, recipe in RECIPES.items()
    if recipe.observers()
]


@pytest.mark.parametrize("recipe", FITTED)
def test_a_recipe_that_is_fitted_while_training_resumes_with_what_it_has_seen(
    recipe: str,
    unmask: Call,
    small: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("unmask.diffusion.adaptive.REFIT_EVERY", 5)
    run = tmp_path / "run"
    options = [*small, "--train.steps", 40, "--validation.every", 17, "--train.keep", 9]
    options += ["--train.batch-size", 32, "--recipe", f"{recipe}:stratified=false"]
    options += ["--train.learning-rate", 0.01]
    assert unmask("train", "--run", run, *options)[0] == 0
    finished = open_run(run).checkpoint.tensors("model")
    lines = (run / "metrics.jsonl").read_text().splitlines()
    means = [r["rate_mean"] for r in map(json.loads, lines) if r["kind"] == "train"]
    shutil.rmtree(run / "checkpoints/step-00000040")
    shutil.rmtree(run / "checkpoints/step-00000034")
    status, text = unmask("train", "--run", run, "--resume")
    assert status == 0, text
    assert same(open_run(run).checkpoint.tensors("model"), finished)
    again = (run / "metrics.jsonl").read_text().splitlines()
    assert means == [r["rate_mean"] for r in map(json.loads, again) if r["kind"] == "train"]
    forgotten = tmp_path / "forgotten"
    monkeypatch.setattr("unmask.diffusion.adaptive.REFIT_EVERY", 1000)
    assert unmask("train", "--run", forgotten, *options)[0] == 0
    lines = (forgotten / "metrics.jsonl").read_text().splitlines()
    never = [r["rate_mean"] for r in map(json.loads, lines) if r["kind"] == "train"]
    assert means[:5] == never[:5] and means != never  # something was fitted


@pytest.mark.parametrize(
    "extra",
    [
        [],
        ["--train.optimizer", "muon", "--train.ema", "0.9"],
        ["--model.late", "1"],
        ["--model.self-conditioning"],
    ],
    ids=["plain", "averaged", "late", "self-conditioned"],
)
def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit(
    extra: list[str], unmask: Call, small: list[str], tmp_path: Path
) -> None:
    # A recipe without phases: one whose phases are shares of the steps changes with their number.
    options = [*small, *extra, "--validation.every", "4", "--recipe", "narrow"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert unmask("train", "--run", whole, *options, "--train.steps", 12)[0] == 0
    assert unmask("train", "--run", parts, *options, "--train.steps", 7)[0] == 0
    assert unmask("train", "--run", parts, "--resume", "--train.steps", 12)[0] == 0
    for name in ("model", "optimizer", *(["ema"] if "--train.ema" in extra else [])):
        assert same(weights(whole, 12, name), weights(parts, 12, name))
    assert evals(whole) == [r for r in evals(parts) if r["step"] != 7]  # where it once ended
    lines = [json.loads(line) for line in (parts / "metrics.jsonl").read_text().splitlines()]
    steps = [r["step"] for r in lines if r["kind"] == "train"]
    assert steps == list(range(1, 13))


@pytest.mark.parametrize("recipe", [MIXED[0], *SLOW_MIXED])
def test_micro_batches_equal_the_whole_batch(
    recipe: str, unmask: Call, small: list[str], tmp_path: Path
) -> None:
    """Batch 8 x accumulation 4 and batch 32: the same weights to rounding."""
    options = [*small, "--train.batch-size", "32", "--train.steps", "5", "--recipe", recipe]
    options += ["--train.learning-rate", "1e-3"]
    assert unmask("train", "--run", tmp_path / "a", *options)[0] == 0
    assert unmask("train", "--run", tmp_path / "b", *options, "--train.accumulation", 4)[0] == 0
    a, b = weights(tmp_path / "a", 5), weights(tmp_path / "b", 5)
    start = weights_at_start(tmp_path / "a")
    for name in a:
        moved = (a[name] - start[name]).abs().max()
        assert (a[name] - b[name]).abs().max() < 0.02 * moved, name


def weights_at_start(run: Path) -> dict[str, torch.Tensor]:
    from unmask.run import build_model

    opened = open_run(run)
    return build_model(opened.config, opened.tokenizer).state_dict()


def test_only_a_recipe_that_observes_leaves_a_file_of_it(
    unmask: Call, small: list[str], tmp_path: Path
) -> None:
    for recipe, files in (("fast", set()), ("adaptive", {"rates.safetensors"})):
        options = [*small, "--train.steps", 2, "--recipe", recipe]
        assert unmask("train", "--run", tmp_path / recipe, *options)[0] == 0
        found = {path.name for path in open_run(tmp_path / recipe).checkpoint.folder.iterdir()}
        assert found == {"checkpoint.json", "model.safetensors", "optimizer.safetensors"} | files


def test_recipes_share_initial_weights_data_and_evaluation_noise(
    unmask: Call, small: list[str], tmp_path: Path
) -> None:
    """With a vanishing learning rate two recipes are the same untrained model."""
    options = [*small, "--train.steps", "1", "--train.learning-rate", "1e-12"]
    for recipe in ("standard", "bell"):
        assert unmask("train", "--run", tmp_path / recipe, *options, "--recipe", recipe)[0] == 0
    one, other = evals(tmp_path / "standard")[-1], evals(tmp_path / "bell")[-1]
    assert one["nelbo"] == pytest.approx(other["nelbo"], abs=1e-6)
    assert one["stderr"] == pytest.approx(other["stderr"], abs=1e-6)


def test_a_signal_saves_and_ends_and_resume_goes_on(
    unmask: Call, small: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    options = [*small, "--validation.every", "100000", "--train.steps", "100000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "unmask", "train", "--run", str(run), *options],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    metrics = run / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (metrics.exists() and metrics.stat().st_size > 1000):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "--resume" in output
    (checkpoint,) = (run / "checkpoints").iterdir()
    saved = json.loads((checkpoint / "checkpoint.json").read_text())
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert saved["step"] == lines[-1]["step"]
    more = ["--resume", "--train.steps", saved["step"] + 2]
    assert unmask("train", "--run", run, *more)[0] == 0


def test_a_loss_that_is_not_finite_stops_the_run(
    unmask: Call, small: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    options = ["--train.steps", "4", "--validation.every", "2", "--train.skip", "0"]
    assert unmask("train", "--run", run, *small, *options)[0] == 0
    # Poison a weight of the checkpoint, honestly manifested, as an overflow would have.
    from unmask.train.checkpoint import find_checkpoint, save_checkpoint

    checkpoint = find_checkpoint(run / "checkpoints")
    assert checkpoint is not None
    model = checkpoint.tensors("model")
    model["head.weight"][0, 0] = float("inf")
    save_checkpoint(
        run / "checkpoints",
        checkpoint.progress,
        {"model": model, "optimizer": checkpoint.tensors("optimizer")},
    )
    status, text = unmask("train", "--run", run, "--resume", "--train.steps", 8)
    assert status == 3
    assert "not finite, or a spike, at step 4" in text and "step-00000004" in text
    blocks = eval(text[text.index("[") : text.index("]") + 1])
    assert len(blocks) == 8
    assert not (run / "checkpoints/step-00000006").exists()


def test_a_bound_that_is_not_finite_stops_the_run(
    unmask: Call, small: list[str], tmp_path: Path
) -> None:
    """Loss and gradient of the first step are fine; the weights it leaves are not."""
    run = tmp_path / "run"
    options = ["--train.steps", 4, "--validation.every", 1, "--train.learning-rate", 1e38]
    status, text = unmask("train", "--run", run, *small, *options)
    assert status == 3 and "validation bound is not finite at step 1" in text
    assert [r["step"] for r in evals(run)] == [0]
    assert not (run / "checkpoints").exists()


def test_padded_documents_train_and_padding_is_not_counted(
    unmask: Call, tmp_path: Path, small: list[str]
) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("".join(f"line {'x' * (i % 7)}\n" for i in range(200)))
    run = tmp_path / "run"
    options = ["--corpus.source", f"{lines}:document=line", "--corpus.packing", "pad"]
    status, text = unmask("train", "--run", run, *small, *options, "--train.steps", 3)
    assert status == 0, text
    data = load_data(open_run(run).config.corpus)
    assert isinstance(data.train, Blocks) and data.train.lengths is not None
    assert evals(run)[-1]["tokens_seen"] < 3 * 8 * 13  # no line has more than 11 bytes
    # Untrained, it draws separators everywhere; a sample is the document before the first.
    status, text = unmask("sample", run, "--num", 40, "--length", 32, "--steps", 4)
    assert status == 0 and "sample 40" in text and "¶" not in text


def test_tensorboard_gets_the_numbers_too(unmask: Call, small: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ["--train.steps", "2", "--train.log-to", "tensorboard"]
    assert unmask("train", "--run", run, *small, *options)[0] == 0
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    _, nelbo = events.Scalars("eval/nelbo")
    assert nelbo.value == pytest.approx(evals(run)[-1]["nelbo"], rel=1e-6)


def test_an_extra_that_is_not_installed_is_named(
    unmask: Call, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # what a missing module looks like
    status, text = unmask("train", "--run", tmp_path / "r", *small, "--train.log-to", "wandb")
    assert status == 2 and "unmask[wandb]" in text


def test_wandb_gets_the_numbers_too(
    unmask: Call, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a stand-in for the module: what it is asked to do, in its own terms."""
    logged: list[tuple[int, dict[str, float]]] = []
    ended = []

    class Run:
        def log(self, values: dict[str, float], step: int) -> None:
            logged.append((step, values))

        def finish(self) -> None:
            ended.append(True)

    stand_in = type(sys)("wandb")
    stand_in.init = lambda **options: Run()
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    run = tmp_path / "run"
    assert (
        unmask("train", "--run", run, *small, "--train.steps", 2, "--train.log-to", "wandb")[0] == 0
    )
    evaluations = [(step, v["eval/nelbo"]) for step, v in logged if "eval/nelbo" in v]
    assert evaluations == [(r["step"], r["nelbo"]) for r in evals(run)]
    assert ended


def test_averaged_weights_are_what_is_kept_and_evaluated(
    unmask: Call, small: list[str], tmp_path: Path
) -> None:
    run, decay = tmp_path / "run", 0.75
    options = ["--train.steps", 4, "--train.save-every", 1, "--train.keep", 9, "--train.ema", decay]
    assert unmask("train", "--run", run, *small, *options)[0] == 0
    average = weights(run, 1)
    for step in (2, 3, 4):
        latest = weights(run, step)
        average = {k: decay * average[k] + (1 - decay) * latest[k] for k in average}
    for name, value in weights(run, 4, "ema").items():
        torch.testing.assert_close(value, average[name])
    opened = open_run(run)
    assert same(dict(opened.model.state_dict()), weights(run, 4, "ema"))
    data = load_data(opened.config.corpus)
    bound = validate(opened.model, data.valid, opened.config.validation, data.tokenizer.mask_id)
    assert bound.nelbo == pytest.approx(evals(run)[-1]["nelbo"], rel=1e-6)


@pytest.mark.slow
def test_a_compiled_network_trains_the_same(unmask: Call, small: list[str], tmp_path: Path) -> None:
    options = ["--train.steps", "20", "--validation.every", "20"]
    assert unmask("train", "--run", tmp_path / "a", *small, *options)[0] == 0
    assert unmask("train", "--run", tmp_path / "b", *small, *options, "--train.compile")[0] == 0
    plain, compiled = evals(tmp_path / "a")[-1], evals(tmp_path / "b")[-1]
    assert compiled["nelbo"] == pytest.approx(plain["nelbo"], abs=0.01)


def test_two_processes_cannot_train_in_one_folder(
    unmask: Call, small: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert unmask("train", "--run", run, *small, "--train.steps", 1)[0] == 0
    with locked(run, wait=False):
        status, text = unmask("train", "--run", run, "--resume", "--train.steps", 2)
    assert status == 2 and "another process" in text
    assert unmask("train", "--run", run, "--resume", "--train.steps", 2)[0] == 0


@pytest.mark.parametrize("recipe", ["fast", "puma"])
def test_the_work_that_is_recorded_is_what_a_dry_run_says(
    recipe: str, unmask: Call, small: list[str], tmp_path: Path
) -> None:
    from unmask.config import load_config
    from unmask.cost import cost_of

    run, options = tmp_path / "run", [*small, "--recipe", recipe, "--validation.every", 3]
    assert unmask("train", "--run", run, *options, "--train.steps", 10)[0] == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    expected = cost_of(load_config(run / "config.yaml"), open_run(run).tokenizer.vocab_size)
    assert lines[-1]["flops"] == pytest.approx(expected.flops, rel=1e-9)
    trained = [line for line in lines if line["kind"] == "train"]
    assert all("utilisation" not in line for line in trained)  # nobody knows a CPU's peak
    for before, line in pairwise(trained):
        made = line["flops"] - before["flops"]
        seconds = line["seconds"] - before["seconds"]
        assert line["flops_per_second"] == pytest.approx(made / seconds, rel=0.02)


def test_a_run_from_before_flops_were_counted_goes_on_without(
    unmask: Call, small: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert unmask("train", "--run", run, *small, "--train.steps", 2)[0] == 0
    manifest = run / "checkpoints/step-00000002/checkpoint.json"
    old = json.loads(manifest.read_text())
    del old["flops"], old["sha256"]
    manifest.write_text(json.dumps(old))
    assert unmask("train", "--run", run, "--resume", "--train.steps", 4)[0] == 0
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-2])
    assert last["kind"] == "train" and "flops" not in last and last["flops_per_second"] > 0
