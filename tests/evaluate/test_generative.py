"""Samples judged beside the validation text, over temperatures, drawn from the record."""

import io
import json
import math
import shutil

import pytest
from rich.console import Console

from unmask.base.errors import UserError
from unmask.data.load import load_data
from unmask.evaluate import generative
from unmask.evaluate.frontier import write_frontier
from unmask.evaluate.generative import (
    frontier,
    frontier_table,
    generative_quality,
    reference_quality,
    save_frontier,
)
from unmask.evaluate.judge import load_judge
from unmask.evaluate.quality import text_quality, unigram_entropy
from unmask.run import open_run
from unmask.sample import SamplerOptions, sample


@pytest.fixture(scope="module")
def judge(judge_folder):
    return load_judge(str(judge_folder))


def rendered(table) -> str:
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def by_temperature(run, *, num, length, options, seed):
    """In place of the sampler: hot texts are made of more different letters."""
    letters = "abcdefghijklmnopqrstuvwxyz"[: max(1, int(10 * options.temperature))]
    return [(letters * length)[i : i + length] for i in range(num)]


def test_the_samples_are_the_runs_own(denoiser, judge):
    found = generative_quality(denoiser, judge=judge, num=5, length=24, steps=6, seed=3)
    texts = sample(denoiser, num=5, length=24, options=SamplerOptions(steps=6), seed=3)
    assert list(found.texts) == [text.replace("\n¶\n", "\n\n") for text in texts]
    tokens = denoiser.tokenizer.encode(list(found.texts))
    assert found.samples == text_quality(judge, found.texts, tokens)
    entropies = [unigram_entropy(row) for row in tokens]
    assert found.samples.entropy.value == pytest.approx(sum(entropies) / 5)
    assert found.settings == {"num": 5, "length": 24, "steps": 6, "seed": 3}
    assert found.checkpoint == 40
    again = generative_quality(denoiser, judge=judge, num=5, length=24, steps=6, seed=3)
    assert again == found


def test_the_reference_is_validation_text_of_the_same_length(denoiser, judge):
    blocks = load_data(denoiser.config.corpus).valid
    x, _ = blocks.batch(generative.evenly_spaced(len(blocks), 4))
    texts = [denoiser.tokenizer.decode(row[:20]) for row in x.tolist()]
    plain = [text.replace("\n¶\n", "\n\n") for text in texts]
    found = reference_quality(denoiser, judge=judge, num=4, length=20)
    assert found == text_quality(judge, plain, denoiser.tokenizer.encode(plain))
    assert all("¶" not in text for text in plain)


def test_a_padded_runs_reference_holds_no_padding(padded, judge):
    blocks = load_data(padded.config.corpus).valid
    chosen = generative.evenly_spaced(len(blocks), 9)
    x, valid = blocks.batch(chosen)
    assert not valid.all()
    texts = generative._validation_texts(padded, 9, 32)
    whole = [bytes(i for i in row if i < 256).decode() for row in x.tolist()]
    assert texts == whole
    assert [text[:20] for text in whole] == generative._validation_texts(padded, 9, 20)


def test_collapsed_samples_show_by_their_entropy(denoiser, judge, monkeypatch):
    monkeypatch.setattr(generative, "sample", lambda run, **options: ["aaaa" * 8] * 4)
    found = generative_quality(denoiser, judge=judge, num=4)
    assert found.samples.entropy.value == 0
    assert found.samples.distinct[0].value == 1 / 32
    assert found.reference.entropy.value > 1
    shown = rendered(found.table())
    for words in ("perplexity", "entropy", "distinct-3", "validation text", "samples, step 40"):
        assert words in shown


def test_a_frontier_from_the_samples_to_the_plot(denoiser, judge, tmp_path, monkeypatch):
    monkeypatch.setattr(generative, "sample", by_temperature)
    points = frontier(denoiser, [1.5, 0.3, 1.0], judge=judge, num=4, length=26, steps=2, seed=0)
    assert [p.settings["temperature"] for p in points] == [0.3, 1.0, 1.5]
    entropies = [p.samples.entropy.value for p in points]
    assert entropies == sorted(entropies)
    assert entropies[1] == pytest.approx(math.log(10), abs=0.05)
    assert all(p.reference == points[0].reference for p in points)
    assert "temperature 0.3" in rendered(frontier_table(points))
    save_frontier(points, tmp_path)
    png, svg = write_frontier(tmp_path)
    assert png.read_bytes().startswith(b"\x89PNG")
    assert svg.read_text().startswith("<svg")
    first = png.read_bytes(), svg.read_bytes()
    write_frontier(tmp_path)
    assert (png.read_bytes(), svg.read_bytes()) == first
    record = json.loads((tmp_path / "generative/frontier.json").read_text())
    assert record["points"][0]["samples"] == points[0].samples.record()


def test_what_cannot_be_drawn_is_told(tmp_path):
    with pytest.raises(UserError, match="no frontier yet"):
        write_frontier(tmp_path)
    for content in ("{", "[]", '{"points": [{"settings": {}}]}', '{"points": []}'):
        (tmp_path / "generative").mkdir(exist_ok=True)
        (tmp_path / "generative/frontier.json").write_text(content)
        with pytest.raises(UserError, match=r"damaged|no points"):
            write_frontier(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"num": 1}, "num must be at least 2"), ({"length": 33}, "between 2 and 32"),
     ({"length": 1}, "between 2 and 32"), ({"steps": 0}, "steps must be at least 1")],
)  # fmt: skip
def test_numbers_out_of_range(denoiser, judge, options, message):
    with pytest.raises(UserError, match=message):
        generative_quality(denoiser, judge=judge, **({"num": 2, "length": 8} | options))


@pytest.mark.parametrize("temperatures", [[], [0.0, 1.0], [-1.0]])
def test_temperatures_out_of_range(denoiser, judge, temperatures):
    with pytest.raises(UserError, match="temperatures must be numbers above 0"):
        frontier(denoiser, temperatures, judge=judge)


@pytest.mark.parametrize(
    ("texts", "message"), [(["the cat", "the ░"], "sample 2 holds a mask"),
                           (["the cat", ""], "1 of 2 texts are empty")],
)  # fmt: skip
def test_samples_that_cannot_be_judged(denoiser, judge, monkeypatch, texts, message):
    monkeypatch.setattr(generative, "sample", lambda run, **options: texts)
    with pytest.raises(UserError, match=message):
        generative_quality(denoiser, judge=judge, num=2)


def test_another_corpus_is_no_reference(denoiser, judge, tmp_path):
    shutil.copytree(denoiser.folder, tmp_path / "run")
    facts = json.loads((tmp_path / "run/corpus.json").read_text())
    (tmp_path / "run/corpus.json").write_text(json.dumps(facts | {"sha256": "0" * 64}))
    with pytest.raises(UserError, match="is no longer what the run"):
        reference_quality(open_run(tmp_path / "run"), judge=judge, num=2)
