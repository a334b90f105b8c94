"""The command line as a user meets it: the contract's commands and files, and every bad input."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from unmask.cli.base import DEFAULT_PRESET, default_recipes
from unmask.config import load_config, load_preset, preset_names
from unmask.recipe.parse import RECIPES, parse_recipe
from unmask.train.config import TrainConfig

Call = Callable[..., tuple[int, str]]


def records(run: Path, kind: str) -> list[dict]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [r for r in map(json.loads, lines) if r["kind"] == kind]


def test_train_then_sample(unmask: Call, small: list[str], tmp_path: Path) -> None:
    run = tmp_path / "a"
    status, text = unmask(
        "train", "--run", run, *small, "--train.steps", 6, "--validation.every", 3
    )
    assert status == 0, text
    assert "NELBO" in text and "unigram" in text

    evals = records(run, "eval")
    assert [r["step"] for r in evals] == [0, 3, 6]
    for r in evals:
        assert {
            *("step", "kind", "nelbo", "stderr", "ppl", "bits_per_byte", "c_t"),
            *("tokens_seen", "seconds"),
        } <= set(r)
        assert len(r["c_t"]) == 10
        assert r["ppl"] == pytest.approx(math.exp(r["nelbo"]))
        assert r["tokens_seen"] == r["step"] * 8 * 32
    assert [r["step"] for r in records(run, "train")] == [1, 2, 3, 4, 5, 6]
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == [
        "step-00000003",
        "step-00000006",
    ]
    facts = json.loads((run / "corpus.json").read_text())
    assert (
        len(facts["sha256"]) == 64
        and facts["train"]["documents"] + facts["valid"]["documents"] == 60
    )

    arguments = ("sample", run, "--num", 2, "--length", 16, "--steps", 8, "--seed", 1)
    status, first = unmask(*arguments)
    assert status == 0 and "sample 2" in first
    assert unmask(*arguments) == (0, first)
    assert unmask(*arguments[:-1], 2)[1] != first


def test_the_resolved_configuration_repeats_the_run(
    unmask: Call, small: list[str], tmp_path: Path
) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    options = ("--train.steps", 4, "--validation.every", 2, "--recipe", "bell:std=0.3", "--seed", 5)
    assert unmask("train", "--run", a, *small, *options)[0] == 0
    config = yaml.safe_load((a / "config.yaml").read_text())
    assert "mean=0.5,std=0.3" in config["recipe"]  # every parameter is written out
    assert unmask("train", "--config", a / "config.yaml", "--run", b)[0] == 0
    for one, other in zip(records(a, "eval"), records(b, "eval"), strict=True):
        assert one["nelbo"] == other["nelbo"]
    assert load_config(a / "config.yaml") == load_config(b / "config.yaml")


def test_the_autoregressive_twin_trains_validates_and_samples(
    unmask: Call, small: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "ar"
    status, text = unmask("train", "--run", run, *small, "--recipe", "ar", "--train.steps", 3)
    assert status == 0, text
    _, record = records(run, "eval")
    assert record["c_t"] is None and record["nelbo"] < math.log(257) + 0.1
    assert unmask("sample", run, "--num", 1, "--length", 8)[0] == 0


def test_presets_load_smallest_first() -> None:
    names = preset_names()
    assert names == ["nano", "tiny", "mini", "small", "medium", "laboratory", "pretrained"]
    for name in names:
        assert load_preset(name).model.width % load_preset(name).model.heads == 0


def test_a_preset_can_say_what_is_compared() -> None:
    said = [default_recipes(["--preset", p]) for p in ("nano", "laboratory", "tiny,laboratory")]
    assert said == ["standard,bell", "all", "all"]
    assert default_recipes([]) == "standard,bell"
    assert load_preset("laboratory").model == load_preset("nano").model


def test_presets_can_be_laid_over_each_other() -> None:
    tiny, both = load_preset("tiny"), load_preset("tiny,laboratory")
    assert both.model == tiny.model and both.corpus == tiny.corpus
    assert (tiny.train.steps, both.train.steps) == (3000, 600)


def test_no_preset_has_a_recipe_s_name_and_the_default_is_what_was_fastest() -> None:
    assert not set(preset_names()) & set(RECIPES)
    default = load_preset(DEFAULT_PRESET)
    assert default.recipe == parse_recipe("fast").spec()
    for train in (default.train, load_preset("tiny").train, TrainConfig()):
        found = (train.optimizer, train.learning_rate, train.warmup_steps)
        assert found == ("muon", 8e-3, 20)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--train.stepz", "3"], ["stepz", "train.steps"]),
        (["--train.steps", "0"], ["steps", "greater than or equal to 1"]),
        (["--recipe", "bel"], ["'bel'", "bell", "standard", "iid", "flat", "bell-weighted", "ar"]),
        (["--recipe", "bell:meen=0.4"], ["'meen'", "mean", "std"]),
        (["--recipe", "bell:std=-1"], ["std > 0"]),
        (
            ["--preset", "giant"],
            ["'giant'", "nano", "tiny", "mini", "small", "medium", "laboratory", "pretrained"],
        ),
        (["--preset", "tiny,slow"], ["'slow'", "laboratory"]),
        (["--preset", "nano,fast"], ["preset 'fast'", "nano"]),
        (["--train.optimizer", "sgd"], ["optimizer 'sgd'", "adamw", "muon"]),
        (["--corpus.source", "wikitext"], ["'wikitext'", "wikitext-2", "python-stdlib"]),
        (["--corpus.source", "no/such/place"], ["no/such/place"]),
        (["--corpus.block-size", "100000"], ["block-size 100000", "at most"]),
        (["--corpus.tokenizer", "bpe:90000"], ["bpe:90000", "at most"]),
        (["--corpus.tokenizer", "bpe:12"], ["bpe:12", "258"]),
        (["--corpus.tokenizer", "no-such-tokenizer"], ["no-such-tokenizer", "bytes", "bpe:N"]),
        (["--model.width", "33"], ["width"]),
        (["--train.accumulation", "9"], ["accumulation 9", "batch-size 8"]),
        (["--train.device", "tpu"], ["device", "cpu"]),
        (["--config", "missing.yaml"], ["missing.yaml"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") else "",
)
def test_bad_input_is_one_clear_error_before_any_work(
    options: list[str], said: list[str], unmask: Call, small: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    status, text = unmask("train", "--run", run, *small, *options)
    assert status == 2
    flat = " ".join(text.replace("│", " ").split())
    for words in said:
        assert words in flat, text
    assert "Traceback" not in text
    assert not run.exists()


def test_all_that_is_wrong_in_a_file_is_told_at_once(unmask: Call, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("sed: 3\ntrain: {steps: -1, lr: 3}\nmodel: {width: 33}\nrecipe: bel\n")
    status, text = unmask("train", "--config", file, "--run", tmp_path / "r")
    assert status == 2
    for words in ("c.yaml", "'sed'", "train.steps", "'train.lr'", "model", "'bel'"):
        assert words in text, text


def test_a_configuration_that_is_not_yaml(unmask: Call, tmp_path: Path) -> None:
    for content in (b"a: [", b"\xff\xfe", b"just words", b""):
        file = tmp_path / "c.yaml"
        file.write_bytes(content)
        status, text = unmask("train", "--config", file, "--run", tmp_path / "r")
        assert status == 2 and "c.yaml" in text


def test_an_existing_folder_needs_resume(unmask: Call, small: list[str], tmp_path: Path) -> None:
    run = tmp_path / "a"
    assert unmask("train", "--run", run, *small, "--train.steps", 2)[0] == 0
    status, text = unmask("train", "--run", run, *small, "--train.steps", 2)
    assert status == 2 and "exists already: resume it" in text
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("mine")
    status, text = unmask("train", "--run", other, *small, "--resume")
    assert status == 2 and "not a run" in text
    assert [p.name for p in other.iterdir()] == ["thesis.tex"]
    file = tmp_path / "file"
    file.write_text("x")
    assert unmask("train", "--run", file, *small)[0] == 2


def test_bad_requests_for_samples(unmask: Call, small: list[str], tmp_path: Path) -> None:
    run = tmp_path / "a"
    assert unmask("train", "--run", run, *small, "--train.steps", 1)[0] == 0
    empty = tmp_path / "empty.txt"
    empty.write_text(" \n")
    for options, said in (
        (["--num", "0"], "--num: "),
        (["--steps", "0"], "--steps: "),
        (["--length", "33"], "--length must be between 1 and 32"),
        (["--length", "0", "--prompt", "a"], "--length: "),
        (["--top-p", "0"], "--top-p: "),
        (["--top-p", "1.5"], "--top-p: "),
        (["--top-k", "-1"], "--top-k: "),
        (["--temperature", "-1"], "--temperature: "),
        (["--sampler", "gibbs"], "valid: ancestral"),
        (["--block-length", "0"], "--block-length: "),
        (["--prompt", "x" * 30, "--length", "8"], "more than the run's block size"),
        (["--infill", "nothing hidden"], "[MASK*12]"),
        (["--infill", "a[MASK*0]"], "[MASK*0]"),
        (["--infill", "a[MASK*40]"], "block size"),
        (["--infill-file", tmp_path / "none.txt"], "none.txt"),
        (["--infill-file", empty], "is empty"),
        (["--infill", "a[MASK]", "--prompt", "b"], "give one"),
        (["--out", tmp_path], "--out: "),
        (["--out", tmp_path / "none" / "a.txt"], "there is no folder"),
        (["--checkpoint", "7"], "among 1"),
        (["--device", "tpu"], "valid: auto, cpu"),
    ):
        status, text = unmask("sample", run, *options)
        assert status == 2 and said in text, text
    status, text = unmask("sample", tmp_path / "nothing")
    assert status == 2 and "not a run" in text


def test_help_and_unknown_commands(unmask: Call) -> None:
    assert unmask()[0] == 0 and unmask("--help")[0] == 0
    status, text = unmask("trian")
    assert status == 2 and "train" in text and "sample" in text
    for command in ("train", "sample"):
        status, text = unmask(command, "--help")
        assert status == 0 and "run" in text.lower() and "--seed" in text
