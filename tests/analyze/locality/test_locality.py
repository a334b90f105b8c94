"""``unmask analyze locality`` and ``bell:auto`` as a user meets them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from unmask.recipe.parse import parse_recipe

Call = Callable[..., tuple[int, str]]


def test_a_corpus(unmask: Call, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--corpus.source", corpus, "--out", out, "--json")
    status, text = unmask("analyze", "locality", *options)
    assert status == 0, text
    record = json.loads((out / "locality.json").read_text())
    assert json.loads(text[text.index("{") :].splitlines()[0]) == record
    assert record["run"] is None
    assert record["mutual_information"]["distances"] == list(range(1, 65))
    assert record["mutual_information"]["nats"][0] > 1  # a rhyme's bytes follow from each other
    assert parse_recipe(record["bell"]["recipe"]) and len(record["conclusion"]) == 2
    assert record["bell"]["recipe"] in record["conclusion"][1]
    page = (out / "index.html").read_text()
    assert page.count("<figure ") == 3 and page.count("<script") == 1
    assert sorted(p.stem for p in out.glob("*.png")) == ["information", "mask_runs", "reach"]


@pytest.mark.usefixtures("unrendered")
def test_a_run(unmask: Call, small: list[str], tmp_path: Path) -> None:
    run, out = tmp_path / "a", tmp_path / "out"
    options = ("--train.steps", 200, "--train.learning-rate", 0.02, "--validation.every", 200)
    assert unmask("train", "--run", run, *small, "--recipe", "bell", *options)[0] == 0
    status, text = unmask("analyze", "locality", run, "--out", out, "--blocks", 24)
    assert status == 0, text
    record = json.loads((out / "locality.json").read_text())
    found = record["run"]
    assert found["step"] == 200 and found["radii"] == [0, 1, 2, 4, 8, 16, 32]
    both, left = found["sides"]["both"], found["sides"]["left"]
    assert both["cross_entropy"][0] == left["cross_entropy"][0]
    assert both["cross_entropy"][-1] < both["cross_entropy"][0]
    assert 0 < both["holds"]["50%"]["tokens"] <= both["holds"]["90%"]["tokens"] <= 32
    reach = found["reach"]
    assert {len(reach[k]) for k in ("t", "measured", "evidence", "nearest", "profile")} == {10}
    last = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][-1]
    assert found["nelbo"] == pytest.approx(last["nelbo"], abs=6 * last["stderr"])
    assert (out / "windows.png").is_file() and "90%" in text
    flat = " ".join(text.split())
    assert all(" ".join(line.split()) in flat for line in record["conclusion"])
    status, text = unmask("analyze", "locality", run, "--corpus.tokenizer", "bpe:300")
    assert status == 2 and "own corpus" in text


def test_one_clear_error_each(unmask: Call, small: list[str], tmp_path: Path) -> None:
    run = tmp_path / "ar"
    assert unmask("train", "--run", run, *small, "--recipe", "ar", "--train.steps", 1)[0] == 0
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.yaml").write_text((run / "config.yaml").read_text())
    short = tmp_path / "short.txt"
    short.write_text("a few words\n\nand a few more\n\n" * 4)
    paragraphs = f"{short}:document=paragraph"
    for arguments, said in (
        ([run], "autoregressive twin"),
        ([bare], "no checkpoint"),
        (["nowhere"], "nowhere"),
        ([paragraphs, "--corpus.block-size", 8], "too short"),
        ([run, "--blocks", 1], "--blocks"),
        ([run, "--checkpoint", 7], "among 1"),
    ):
        status, text = unmask("analyze", "locality", *arguments)
        assert status == 2 and said in text and "Traceback" not in text, text
    status, text = unmask("analyze", "localty")
    assert status == 2 and "locality" in text
    assert "locality" in unmask("analyze", "--help")[1]
    assert "CORPUS|RUN" in unmask("analyze", "locality", "--help")[1]


def recipe_of(run: Path) -> str:
    return yaml.safe_load((run / "config.yaml").read_text())["recipe"]


def test_bell_auto_is_recorded_in_numbers(
    unmask: Call, small: list[str], corpus: Path, tmp_path: Path
) -> None:
    status, text = unmask("train", "--run", tmp_path / "a", *small, "--recipe", "bell:auto",
                          "--train.steps", 1)  # fmt: skip
    assert status == 0, text
    assert "mean=" in recipe_of(tmp_path / "a") and "auto" not in recipe_of(tmp_path / "a")
    for spec, said in (("flat:auto", "'mean'"), ("bell:auto,mean=0.3", "twice")):
        status, text = unmask("train", "--run", tmp_path / "b", *small, "--recipe", spec)
        assert status == 2 and said in text, text


@pytest.mark.slow
def test_bell_auto_is_what_the_analysis_says_and_resumes(
    unmask: Call, small: list[str], corpus: Path, tmp_path: Path
) -> None:
    run = tmp_path / "a"
    options = [*small, "--recipe", "bell:auto,stratified=false", "--train.steps"]
    status, text = unmask("train", "--run", run, *options, 2)
    assert status == 0, text
    block = ("--corpus.block-size", 32)
    _, record = unmask("analyze", "locality", corpus, *block, "--json")
    bell = json.loads(record.splitlines()[0])["bell"]["recipe"].partition(":")[2]
    assert recipe_of(run) == parse_recipe(f"bell:{bell},stratified=false").spec()
    assert bell in text
    assert unmask("train", "--run", run, "--resume", "--train.steps", 3)[0] == 0
    status, text = unmask("train", "--run", run, "--resume", *options, 4)
    assert status == 0, text
    other = [*small, "--recipe", "fast:auto", "--train.steps", 4]
    status, text = unmask("train", "--run", run, "--resume", *other)
    assert status == 2 and "recipe" in text


@pytest.mark.slow
@pytest.mark.usefixtures("in_process", "unrendered")
def test_bell_auto_as_an_arm(unmask: Call, small: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "cmp"
    options = ["--recipes", "standard,bell:auto", "--train.steps", 2, "--jobs", 2]
    status, text = unmask("compare", "--run", folder, *small, *options)
    assert status == 0, text
    assert "mean=" in recipe_of(folder / "bell_auto/seed-0")
    status, text = unmask("compare", "--run", folder, *small, *options)
    assert status == 0, text
