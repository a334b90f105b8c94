"""``unmask evaluate`` on runs: what it prints, whatever the batch size, and every bad input."""

import json
import math
import shutil
from pathlib import Path

import pytest
import yaml

from unmask.data.load import load_data
from unmask.evaluate.likelihood import evaluate_run
from unmask.run import open_run
from unmask.train.validation import validate

KEYS = {"nelbo", "stderr", "ppl", "bits_per_byte", "tokens", "c_t"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Where the first test that wants the run leaves it, with its corpus and cache."""
    return tmp_path_factory.mktemp("trained") / "all"


@pytest.fixture
def run(trained, unmask, small, tmp_path):
    """A run that is trained once, at the place that its configuration names for its corpus."""
    if not trained.exists():
        options = ("--train.steps", 8, "--validation.every", 4)
        assert unmask("train", "--run", tmp_path / "run", *small, *options)[0] == 0
        shutil.copytree(tmp_path, trained)
    else:
        shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
        config = tmp_path / "run/config.yaml"
        source = yaml.safe_load(config.read_text())["corpus"]["source"]
        config.write_text(config.read_text().replace(source, str(tmp_path / "texts")))
    return tmp_path / "run"


@pytest.fixture
def evaluated(unmask, capsys):
    """Run ``evaluate ... --json``: the one thing on standard output."""

    def call(*arguments, status=0):
        from unmask.cli import main

        assert main(["evaluate", *map(str, arguments), "--json"]) == status
        return json.loads(capsys.readouterr().out)

    return call


def same(a, b):
    for key in ("nelbo", "stderr", "bits_per_byte"):
        assert a[key] == pytest.approx(b[key], rel=1e-5)
    assert a["tokens"] == b["tokens"]


def test_json_is_one_object_and_the_same_for_any_batch_size(run, evaluated):
    found = evaluated(run)
    assert set(found) >= KEYS
    assert found["ppl"] == pytest.approx(math.exp(found["nelbo"]))
    assert (found["checkpoint"], found["estimator"], found["draws"]) == (8, "controlled", 4)
    assert len(found["c_t"]) == 10 and found["stderr"] > 0
    for size in (1, 7):
        same(evaluated(run, "--batch-size", size), found)
    assert evaluated(run) == found
    assert evaluated(run, "--seed", 1)["nelbo"] != found["nelbo"]
    assert evaluated(run, "--checkpoint", 4)["nelbo"] > found["nelbo"]


def test_its_own_split_is_the_one_of_training(run):
    """With the estimator, seed and draws of training: the very bound in metrics.jsonl."""
    opened = open_run(run)
    data = load_data(opened.config.corpus)
    found = evaluate_run(opened, estimator="fixed-count", draws=2)
    config = opened.config.validation.model_copy(update={"blocks": len(data.valid)})
    bound = validate(opened.model, data.valid, config, opened.tokenizer.mask_id)
    assert found.bound.nelbo == pytest.approx(bound.nelbo, rel=1e-6)
    assert found.bound.tokens == data.valid.tokens.size


def test_a_run_reads_every_text_in_the_order_it_was_trained_on(unmask, small, tmp_path):
    folder = tmp_path / "backwards"
    options = ("--train.steps", 8, "--corpus.transform", "reverse")
    assert unmask("train", "--run", folder, *small, *options)[0] == 0
    opened = open_run(folder)
    data = load_data(opened.config.corpus)
    assert data.valid.transform == "reverse"
    found = evaluate_run(opened, estimator="fixed-count", draws=2)
    config = opened.config.validation.model_copy(update={"blocks": len(data.valid)})
    bound = validate(opened.model, data.valid, config, opened.tokenizer.mask_id)
    assert found.bound.nelbo == pytest.approx(bound.nelbo, rel=1e-6)


def test_another_corpus_is_read_whole_with_the_run_s_tokenizer(run, evaluated, tmp_path):
    text = tmp_path / "other.txt"
    text.write_text("the dog sat on a far mat\n" * 7)
    found = evaluated(run, "--corpus.source", text)
    assert found["tokens"] == 7 * 25  # bytes of each line and a separator, the rest not dropped
    assert found["blocks"] == 6
    nats = found["nelbo"] * found["tokens"]
    assert found["bits_per_byte"] == pytest.approx(nats / (7 * 24) / math.log(2))
    assert math.log(found["word_ppl"]) == pytest.approx(nats / (7 * 7))
    padded = evaluated(run, "--corpus.source", text, "--corpus.packing", "pad")
    assert (padded["blocks"], padded["tokens"]) == (7, 7 * 25)


def test_a_text_shorter_than_a_block_is_padded(run, evaluated, tmp_path, unmask):
    text = tmp_path / "short.txt"
    text.write_text("a big cat")
    found = evaluated(run, "--corpus.source", text)
    assert (found["tokens"], found["blocks"], found["stderr"]) == (10, 1, None)
    assert "one block: no ±" in unmask("evaluate", run, "--corpus.source", text)[1]


@pytest.mark.parametrize("estimator", ["independent", "complementary"])
def test_the_budget_spreads_blocks_over_the_corpus(run, evaluated, tmp_path, estimator):
    halves = tmp_path / "halves.txt"
    halves.write_text("the cat sat on a mat\n" * 40 + "ZZZZ QQQQ XXXX\n" * 60)
    arguments = (run, "--corpus.source", halves, "--estimator", estimator)
    whole = evaluated(*arguments)
    part = evaluated(*arguments, "--budget", 2200)
    assert part["blocks"] == 2200 // (4 * 32) == 17
    assert abs(part["nelbo"] - whole["nelbo"]) < 4 * part["stderr"]


def test_a_causal_run_gives_its_exact_likelihood(unmask, small, tmp_path, evaluated):
    run = tmp_path / "ar"
    assert unmask("train", "--run", run, *small, "--recipe", "ar", "--train.steps", 4)[0] == 0
    found = evaluated(run)
    assert (found["c_t"], found["estimator"], found["draws"]) == (None, "exact", 1)
    same(evaluated(run, "--seed", 3, "--draws", 8, "--batch-size", 3), found)


def test_a_suite_of_files_is_a_table_and_a_list(run, evaluated, unmask, tmp_path):
    folder = tmp_path / "suite"
    folder.mkdir()
    (folder / "wikitext-part.txt").write_text("the cat , on a mat @-@ far .\n" * 30)
    rows = [{"text": "one big dog and a cat"}] * 40
    (folder / "dogs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = evaluated("suite", run, folder)
    assert [Path(row["corpus"]).name for row in found] == ["dogs.jsonl", "wikitext-part.txt"]
    assert [row["detokenize"] for row in found] == ["none", "wikitext"]
    assert all(set(row) >= KEYS for row in found)
    same(evaluated(run, "--corpus.source", folder / "dogs.jsonl"), found[0])
    plain = evaluated("suite", run, folder, "--detokenize", "none")[1]
    assert plain["tokens"] > found[1]["tokens"]
    # Nats a word of the text as published, in which words are counted.
    nats = found[1]["nelbo"] * found[1]["tokens"]
    assert math.log(found[1]["word_ppl"]) == pytest.approx(nats / (30 * 9))
    status, text = unmask("evaluate", "suite", run, folder)
    assert status == 0 and "dogs.jsonl" in text and "ppl/word" in text


def test_a_corpus_that_cannot_be_had_does_not_keep_the_others_back(
    run, evaluated, unmask, tmp_path
):
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "good.txt").write_text("the cat sat on a mat\n" * 20)
    sources = [f"--corpus.source={tmp_path / name}.txt" for name in ("missing", "empty", "good")]
    missing, empty, good = evaluated(run, *sources, status=1)
    assert "missing.txt" in missing["error"] and "no text" in empty["error"]
    assert good["nelbo"] > 0
    status, text = unmask("evaluate", run, *sources)
    assert status == 1 and "failed" in text and "missing.txt" in text


def test_the_zero_shot_suite_says_what_is_out_of_reach(run, evaluated, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    rows = evaluated("suite", run, "zeroshot", status=1)
    assert len(rows) == 8
    assert all("cannot load" in row["error"] and "OFFLINE" in row["error"] for row in rows)


def test_the_suite_s_corpora_from_local_folders(run, evaluated, tmp_path, monkeypatch):
    """A hub corpus in the shape of the real one: its own split, field and detokeniser."""
    from unmask.data.hub import PRESETS
    from unmask.evaluate import zeroshot

    folder = tmp_path / "ptb"
    folder.mkdir()
    for split, word in (("train", "never"), ("validation", "N dogs")):
        rows = [{"sentence": f"the cat did n't see {word}"}] * 20
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    preset = {**PRESETS["ptb"], "name": str(folder)}
    del preset["revision"]
    monkeypatch.setitem(PRESETS, "ptb", preset)
    monkeypatch.setattr(zeroshot, "ZEROSHOT", ("ptb",))
    (row,) = evaluated("suite", run, "zeroshot")
    assert row["detokenize"] == "ptb"
    assert row["tokens"] == 20 * (len("the cat didn't see 1 dogs") + 1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--budget", "100"], ["--budget: 100 is too small", "256"]),
        (["--budget", "-1"], ["--budget: ", "greater than or equal to 1"]),
        (["--draws", "3"], ["even, not 3"]),
        (["--draws", "0"], ["--draws: ", "greater than or equal to 1"]),
        (["--batch-size", "0"], ["--batch-size: ", "greater than or equal to 1"]),
        (["--estimator", "magic"], ["'magic'", "controlled", "fixed-count"]),
        (["--detokenize", "magic"], ["'magic'", "wikitext", "auto"]),
        (["--detokenize", "ptb"], ["is for another corpus"]),
        (["--checkpoint", "5"], ["'5'", "last, best", "4, 8"]),
        (["--corpus.source", "no/such.txt"], ["no/such.txt"]),
        (["--corpus.source", "EMPTY"], ["holds no text"]),
        (
            ["--corpus.block-size", "1"],
            ["--corpus.block-size: ", "greater than or equal to 2, not 1"],
        ),
        (["--suite", "zeroshot"], ["unmask evaluate suite RUN"]),
        (["--generative"], ["unmask evaluate generative RUN"]),
        (["--generate.num=3"], ["unmask evaluate generative RUN"]),
        (["--tasks", "piqa"], ["unmask evaluate tasks RUN"]),
        (["--device", "tpu"], ["'tpu'"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") else "",
)
def test_bad_input_is_one_clear_error(run, unmask, tmp_path, options, said):
    empty = tmp_path / "empty.txt"
    empty.write_text("")
    status, text = unmask("evaluate", run, *(str(empty) if o == "EMPTY" else o for o in options))
    assert status == 2 and "Traceback" not in text
    for words in said:
        assert words in text, text


def test_a_suite_that_is_not_there(run, unmask):
    status, text = unmask("evaluate", "suite", run, "nowhere")
    assert status == 2 and "'nowhere'" in text and "zeroshot" in text


def test_a_run_s_folder_can_bear_the_name_of_a_task(run, unmask, monkeypatch):
    run.rename(run.parent / "suite")
    monkeypatch.chdir(run.parent)
    status, text = unmask("evaluate", "./suite", "--draws", "2", "--json")
    assert status == 0 and '"nelbo"' in text
    assert unmask("evaluate", "suite")[0] == 2


def test_impossible_texts_are_refused_before_a_judge_is_loaded(run, unmask, monkeypatch):
    def loaded(*_):
        raise AssertionError("the judge was loaded")

    monkeypatch.setattr("unmask.evaluate.judge.load_judge", loaded)
    monkeypatch.setattr("unmask.run.open_run", loaded)
    for options, said in (
        (["--num", "1"], "--num: "),
        (["--length", "33"], "--length must be between 2 and 32"),
        (["--steps", "0"], "--steps: "),
        (["--sampler", "magic"], "'magic'"),
        (["--temperatures", "1", "0"], "--temperatures: input should be greater than 0, not 0.0"),
        (["--temperatures", "nan"], "--temperatures: "),
        (["--seed", "-1"], "--seed: "),
    ):
        status, text = unmask("evaluate", "generative", run, *options)
        assert status == 2 and said in text, text
    status, text = unmask("evaluate", "tasks", run, "piqa", "--limit", "0")
    assert status == 2 and "--limit: " in text, text


def test_a_folder_that_is_no_model_and_one_that_is_not_there(unmask, tmp_path):
    status, text = unmask("evaluate", tmp_path)
    assert status == 2 and "neither a run" in text and "nor a Hugging Face model" in text
    status, text = unmask("evaluate", "nothing/anywhere")
    assert status == 2 and "no run's folder, and no Hugging Face model" in text


def test_a_corpus_that_has_changed_is_no_longer_the_run_s(run, corpus, unmask):
    (corpus / "new.txt").write_text("one more")
    status, text = unmask("evaluate", run)
    assert status == 2 and "no longer what the run" in text


def test_a_mistyped_path_is_not_looked_for_on_the_hub(run, unmask):
    for name in (run.parent / "rnu", "./nowhere", "studies/of/nothing"):
        status, text = unmask("evaluate", name)
        assert status == 2 and "no file or folder" in text, text


def test_a_block_size_beyond_the_text_is_refused(run, unmask, tmp_path):
    path = tmp_path / "short.txt"
    path.write_text("the cat sat on a mat")
    options = (run, "--corpus.source", path)
    assert unmask("evaluate", *options)[0] == 0  # in the run's own block, the rest padded
    status, text = unmask("evaluate", *options, "--corpus.block-size", 100_000)
    flat = " ".join(text.split())
    assert status == 2 and "corpus.block-size 100000 is longer than" in flat, text
    assert "(21 tokens); at most 21" in flat
    status, text = unmask("evaluate", *options, "--corpus.block-size", 21)
    assert status == 0, text
