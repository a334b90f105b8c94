"""Runs that start from pretrained weights."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from in_process import train_here
from tiny_networks import make
from unmask.config import load_config
from unmask.run import open_run

Call = Callable[..., tuple[int, str]]
BAD_INPUT = 2


@pytest.fixture
def options(corpus: Path) -> list[object]:
    return [
        *("--corpus.source", corpus, "--corpus.block-size", 32, "--train.batch-size", 8),
        *("--train.device", "cpu", "--train.precision", "fp32", "--train.warmup-steps", 2),
        *("--validation.blocks", 16, "--validation.draws", 2, "--train.log-every", 1),
        *("--train.learning-rate", 3e-3, "--validation.every", 5),
    ]


def bounds(run: Path) -> list[float]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line["nelbo"] for line in lines if line["kind"] == "eval"]


@pytest.mark.parametrize(
    ("kind", "recipe", "more"),
    [
        ("llama", "fast", ["--train.recompute"]),
        pytest.param("gpt2", "bell", ["--train.optimizer", "muon"], marks=pytest.mark.slow),
        pytest.param("qwen2", "ar", [], marks=pytest.mark.slow),
        ("bert", "narrow", ["--train.ema", 0.5]),
        pytest.param("modernbert", "bell", ["--corpus.packing", "pad"], marks=pytest.mark.slow),
        pytest.param("qwen3", "puma", ["--train.accumulation", 2], marks=pytest.mark.slow),
        pytest.param("llama", "bell", ["--adapt.no-keep-shift"], marks=pytest.mark.slow),
    ],
)
def test_it_trains_resumes_evaluates_and_samples(
    kind: str, recipe: str, more: list[object], unmask: Call, options: list[object], tmp_path: Path
) -> None:
    source, whole, parts = make(kind, tmp_path / "model"), tmp_path / "whole", tmp_path / "parts"
    more = [*options, "--recipe", recipe, *more]
    # constant shares, so that a run of fewer steps is the beginning of one with more
    more[more.index(recipe)] = recipe if recipe != "fast" else "fast:next-token=0.5"
    start = ["train", "--init", source, *more]
    status, text = unmask(*start, "--run", whole, "--train.steps", 10)
    assert status == 0, text
    assert unmask(*start, "--run", parts, "--train.steps", 5)[0] == 0
    (source / "model.safetensors").unlink()  # from here on the run has its own
    assert unmask("train", "--run", parts, "--resume", "--train.steps", 10)[0] == 0
    a, b = (open_run(run).checkpoint.tensors("model") for run in (whole, parts))
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    found = bounds(whole)
    assert found[-1] < found[0]
    status, text = unmask("evaluate", whole, "--json")
    (line,) = (line for line in text.splitlines() if line.startswith("{"))
    assert status == 0 and json.loads(line)["nelbo"] < math.log(258)
    assert unmask("sample", whole, "--length", 8, "--num", 1, "--seed", 3)[0] == 0


@pytest.mark.slow
def test_it_is_compared(
    unmask: Call, options: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_here(monkeypatch)
    source, run = make("llama", tmp_path / "model"), tmp_path / "cmp"
    arms = "standard,bell:next-token=1@0/0@0.5"
    status, text = unmask(
        *("compare", "--init", source, "--run", run, "--recipes", arms, "--jobs", 1),
        *(*options, "--train.steps", 5),
    )
    assert status == 0, text
    starts = {bounds(folder)[0] for folder in run.glob("*/seed-0")}
    assert len(starts) == 1  # the same weights, measured on the same noise


def test_defaults_are_those_of_adapting(
    unmask: Call, options: list[object], tmp_path: Path
) -> None:
    source, run = make("llama", tmp_path / "model"), tmp_path / "run"
    few = [o for o in options if o not in ("--train.learning-rate", 3e-3)]
    assert unmask("train", "--init", source, "--run", run, *few, "--train.steps", 2)[0] == 0
    config = load_config(run / "config.yaml")
    assert (config.train.optimizer, config.train.learning_rate) == ("adamw", 1e-4)
    assert config.corpus.tokenizer == str(source)


def test_adapters_alone_are_trained_and_saved(
    unmask: Call, options: list[object], tmp_path: Path
) -> None:
    source, run = make("llama", tmp_path / "model"), tmp_path / "run"
    more = ["--adapt.lora", 4, "--train.learning-rate", 1e-2, "--train.steps", 10]
    status, text = unmask("train", "--init", source, "--run", run, *options, *more)
    assert status == 0, text
    kept = open_run(run).checkpoint.tensors("model")
    assert all("lora_" in name for name in kept if name != "head.bias") and len(kept) > 10
    assert bounds(run)[-1] < bounds(run)[0]
    assert unmask("sample", run, "--length", 8, "--num", 1)[0] == 0
    assert unmask("train", "--run", run, "--resume", "--train.steps", 12)[0] == 0
    for file in source.iterdir():
        file.unlink()
    status, text = unmask("sample", run, "--length", 8)
    assert status == BAD_INPUT and f"holds adapters of {source}, which is needed too" in text


@pytest.mark.parametrize(("before", "after"), [("narrow", "bell"), ("fast", "fast")])
def test_from_a_run(
    before: str, after: str, unmask: Call, small: list[str], options: list[object], tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert unmask("train", "--run", first, *small, "--recipe", before, "--train.steps", 6)[0] == 0
    more = [*options, "--recipe", after, "--train.steps", 4]
    status, text = unmask("train", "--init", first, "--run", second, *more)
    assert status == 0, text
    assert bounds(second)[0] == pytest.approx(bounds(first)[-1], abs=1e-5)
    assert load_config(second / "config.yaml").model.width == 32


def test_a_part_that_a_run_has_not_is_refused(
    unmask: Call, small: list[str], options: list[object], tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    few = ["--train.steps", 2, "--model.convolution", 1]
    assert unmask("train", "--run", first, *small, "--recipe", "bell", *few)[0] == 0
    start = ["train", "--init", first, "--run", second, *options, "--recipe", "bell"]
    status, text = unmask(*start, "--model.convolution", 2, "--model.loops", 2)
    assert status == BAD_INPUT and not second.exists()
    assert "--model.convolution, --model.loops: with init the network is that of" in text
    assert unmask(*start, "--model.convolution", 1, "--train.steps", 2)[0] == 0


BAD: list[tuple[list[Any], str]] = [
    (
        ["--init", "MODEL", "--model.convolution", 2, "--model.zero-outputs"],
        "--model.convolution, --model.zero-outputs: with init the network is that of .*MODEL,",
    ),
    (["--init", "MODEL", "--model.late", 1], "--model.late: with init"),
    (["--init", "MODEL", "--model.shift"], "--model.shift: with init"),
    (["--init", "MODEL", "--model.self-conditioning"], "--model.self-conditioning: with init"),
    (["--init", "MODEL", "--model.activation", "relu2"], "--model.activation: with init"),
    (["--init", "MODEL", "--model.loops", 2], "--model.loops: with init"),
    (["--init", "MODEL", "--model.value-embedding"], "--model.value-embedding: with init"),
    (["--init", "BERT", "--recipe", "fast"], "trains autoregressively too, but .* is a masked"),
    (["--init", "MODEL", "--recipe", "ar", "--adapt.no-keep-shift"], "--adapt.keep-shift is off"),
    (["--init", "nowhere/model"], "no such|cannot load"),
    (["--init", "MODEL", "--corpus.block-size", 128], "reads at most 128 tokens"),
    (["--init", "MODEL", "--corpus.tokenizer", "bpe:270"], "has a tokenizer of its own"),
    (["--adapt.lora", 4], "need init, a pretrained model"),
    (["--init", "PICKLED"], "pytorch_model.bin would have to be unpickled.* valid: "),
    (["--init", "UNMASKED", "--recipe", "bell"], "UNMASKED has no mask token"),
    (["--init", "ADAPTER"], "holds adapters without the model that they adapt"),
    (["--init", "HEAD-TIED"], "ties the output layer to the embedding .* two that differ"),
    (["--init", "HEAD-ALIKE"], "ties the output layer to the embedding .* two that differ"),
    (["--init", "HEAD"], "lm_head.weight is 260 x 32, and its config.json asks for 257 x 32"),
    (["--init", "EMBEDDING"], "embed_tokens.weight is 260 x 32, and its config.json asks for 257"),
    (["--init", "MODEL", "--corpus.tokenizer", "OTHER"], "of the .* it is another model's"),
    (["--init", "BERT", "--recipe", "bell", "--corpus.tokenizer", "OTHER"], "another model's"),
]


def damaged(kind: str, folder: Path, weight: str, like: str, rows: int) -> None:
    """A model whose file holds one weight of another size, or of other values."""
    file = make(kind, folder) / "model.safetensors"
    weights = load_file(file)
    weights[weight] = weights[like].new_ones(len(weights[like]) + rows, weights[like].shape[1])
    save_file(weights, file, {"format": "pt"})


EMBEDDING = "model.embed_tokens.weight"
MAKE: dict[str, Callable[[Path], object]] = {
    "MODEL": lambda folder: make("gpt2", folder),
    "BERT": lambda folder: make("bert", folder),
    "HEAD": lambda folder: damaged("llama-untied", folder, "lm_head.weight", EMBEDDING, 3),
    "HEAD-TIED": lambda folder: damaged("llama", folder, "lm_head.weight", EMBEDDING, 3),
    "HEAD-ALIKE": lambda folder: damaged("llama", folder, "lm_head.weight", EMBEDDING, 0),
    "EMBEDDING": lambda folder: damaged("llama", folder, EMBEDDING, EMBEDDING, 3),
}


@pytest.mark.parametrize(("words", "message"), BAD)
def test_what_cannot_be(
    words: list[Any], message: str, unmask: Call, options: list[object], tmp_path: Path,
    tokenizer_folders: dict[str, Path], capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def made(word: object) -> object:
        folder = tmp_path / str(word)
        if word == "OTHER":
            return tokenizer_folders["gpt2"]
        if word == "PICKLED":
            weights = load_file(make("gpt2", folder) / "model.safetensors")
            (folder / "model.safetensors").unlink()
            torch.save(weights, folder / "pytorch_model.bin")
        elif word == "UNMASKED":
            file = make("bert", folder) / "tokenizer_config.json"
            kept = {k: v for k, v in json.loads(file.read_text()).items() if k != "mask_token"}
            file.write_text(json.dumps(kept))
        elif word == "ADAPTER":
            folder.mkdir()
            (folder / "adapter_config.json").write_text("{}")
        elif word in MAKE:
            MAKE[str(word)](folder)
        else:
            return word
        return folder

    named = [made(word) for word in words]
    capsys.readouterr()  # what making it has printed
    status, text = unmask("train", "--run", tmp_path / "run", *options, *named)
    assert status == BAD_INPUT and re.search(message, text), text
    assert "Traceback" not in text and "Notes:" not in text
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_real_causal_model_starts_sane_and_learns(unmask: Call, tmp_path: Path) -> None:
    """A start near 29 nats, as others saw, would be a network that has lost what it knew."""
    run, text = tmp_path / "run", tmp_path / "text.jsonl"
    story = "The old man walked down to the sea, and looked at the boats that came home. "
    chapters = [{"text": f"Chapter {i}. {story * 6}"} for i in range(60)]
    text.write_text("".join(json.dumps(chapter) + "\n" for chapter in chapters))
    status, told = unmask(
        *("train", "--init", "smollm2", "--run", run, "--corpus.source", text),
        *("--recipe", "bell", "--train.steps", 8, "--validation.every", 8),
        *("--train.batch-size", 2, "--corpus.block-size", 64, "--train.warmup-steps", 1),
        *("--validation.blocks", 4, "--validation.draws", 2, "--train.ema", 0),
        *("--train.log-every", 1, "--corpus.valid-fraction", 0.5, "--train.optimizer", "adamw"),
    )
    assert status == 0, told
    first, last = bounds(run)
    assert first < 0.85 * math.log(49_153) and last < first
