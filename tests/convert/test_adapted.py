"""Causal models of `transformers` that unmask has trained on, written and opened again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer
from transformers.dynamic_module_utils import get_class_from_dynamic_module

import unmask as package
from convert.conftest import same_without_unmask
from tiny_networks import make
from unmask.base.errors import UserError
from unmask.convert.adapted import UnmaskAdaptedForCausalLM, UnmaskAdaptedForMaskedLM
from unmask.run import Run, open_run

Call = Callable[..., tuple[int, str]]
Convert = Callable[..., tuple[Path, Path]]
L = 12


@pytest.fixture
def converted(unmask: Call, corpus: Path, tmp_path: Path) -> Convert:
    """(kind of network, options) -> the folders of the run and of what it is converted to."""

    def convert(kind: str, *options: object) -> tuple[Path, Path]:
        source, run, model = make(kind, tmp_path / "source"), tmp_path / "run", tmp_path / "model"
        status, text = unmask(
            *("train", "--init", source, "--run", run, "--corpus.source", corpus),
            *("--corpus.block-size", 32, "--train.batch-size", 4, "--train.steps", 3),
            *("--validation.blocks", 8, "--validation.draws", 2, "--train.precision", "fp32"),
            *("--train.device", "cpu", "--train.learning-rate", 1e-2, "--recipe", "bell"),
            *options,
        )
        assert status == 0, text
        status, text = unmask("convert", run, "--to", model)
        assert status == 0, text
        for file in source.iterdir():  # from here on the folder is all that there is
            file.unlink()
        return run, model

    return convert


def rows(run: Run) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens with masks among them, and which are no padding."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (3, L), generator=generator)
    x[torch.rand(x.shape, generator=generator) < 0.4] = run.tokenizer.mask_id
    return x, torch.arange(L) < torch.tensor([[L], [7], [L]])


@torch.no_grad()
def own_logits(run: Run) -> torch.Tensor:
    x, valid = rows(run)
    logits: torch.Tensor = run.model.head(run.model(x, valid))
    return logits[valid]


@torch.no_grad()
def logits_of(model: Any, run: Run) -> torch.Tensor:
    """Of an exported model, at the places of the tokens that are predicted."""
    x, valid = rows(run)
    if not run.model.causal:
        logits: torch.Tensor = model(input_ids=x, attention_mask=valid.long()).logits
        return logits[valid]
    ids = F.pad(x, (1, 0), value=run.model.start or 0)[:, :-1]
    logits = model(input_ids=ids).logits
    return logits[valid]


def bounds(run: Path) -> list[float]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line["nelbo"] for line in lines if line["kind"] == "eval"]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("llama", []),
        ("gpt2", ["--recipe", "ar"]),
        pytest.param("llama-untied", ["--adapt.no-keep-shift"], marks=pytest.mark.slow),
        pytest.param("qwen2", ["--train.ema", 0.5], marks=pytest.mark.slow),
        pytest.param("qwen3", ["--recipe", "fast"], marks=pytest.mark.slow),
    ],
)
def test_logits_are_the_run_s_with_unmask_and_without(
    kind: str, options: list[object], converted: Convert, unmask: Call
) -> None:
    folder, model = converted(kind, *options)
    run = open_run(folder)
    expected = own_logits(run)
    assert expected.isfinite().any() and torch.equal(own_logits(open_run(model)), expected)
    package.register()
    causal = run.model.causal
    auto = AutoModelForCausalLM if causal else AutoModelForMaskedLM
    installed = auto.from_pretrained(model)
    name = "UnmaskAdaptedForCausalLM" if causal else "UnmaskAdaptedForMaskedLM"
    carried = get_class_from_dynamic_module(f"modeling_unmask.{name}", str(model))
    assert carried.__module__.startswith("transformers_modules")
    for network in (installed, carried.from_pretrained(model)):
        assert type(network).__name__ == name
        assert torch.equal(logits_of(network, run), expected)
        tied = network.get_input_embeddings().weight is network.get_output_embeddings().weight
        assert tied == (kind != "llama-untied" and kind[:4] != "qwen")
    tokenizer = AutoTokenizer.from_pretrained(model)
    assert tokenizer.mask_token_id == run.tokenizer.mask_id
    begin = [run.model.start] if causal else []
    assert tokenizer("the cat").input_ids == [*begin, *run.tokenizer.encode(["the cat"])[0]]
    card = (model / "README.md").read_text()
    assert f"import {auto.__name__}" in card and "trust_remote_code=True" in card
    recipe = options[1] if "--recipe" in options else "bell"
    assert "| began from | `" in card and f"recipe `{recipe}`" in card
    assert "source" not in (model / "config.json").read_text()  # nothing of this machine

    def said(folder: Path, *words: object) -> str:
        status, text = unmask(*words[:1], folder, *words[1:], "--device", "cpu", "--json")
        assert status == 0, text
        (line,) = (line for line in text.splitlines() if line.startswith("{"))
        return line.replace(str(folder), "")

    asked: list[list[object]] = [["evaluate"], ["sample", "--length", 8, "--num", 1]]
    for words in asked:
        assert said(folder, *words) == said(model, *words)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "recipe"), [("masked", "bell"), ("causal", "ar")])
def test_without_unmask_transformers_alone_gives_the_same(
    kind: str, recipe: str, converted: Convert, tmp_path: Path
) -> None:
    _, model = converted("gpt2", "--recipe", recipe)
    name = UnmaskAdaptedForCausalLM if kind == "causal" else UnmaskAdaptedForMaskedLM
    x, _ = rows(open_run(model))
    with torch.no_grad():
        given = {"x": x, "logits": name.from_pretrained(model)(x).logits}
    save_file(given, tmp_path / f"{kind}.safetensors")
    same_without_unmask({kind: str(model)}, tmp_path)


def test_adapters_are_merged(converted: Convert) -> None:
    pytest.importorskip("peft")
    folder, model = converted("llama", "--adapt.lora", 2)
    network = UnmaskAdaptedForMaskedLM.from_pretrained(model)
    assert not [name for name in load_file(model / "model.safetensors") if "lora" in name]
    opened = open_run(model)  # whose base is not there any more
    assert torch.equal(logits_of(network, opened), own_logits(opened))
    assert opened.config.adapt.lora == 0
    with pytest.raises(UserError, match="holds adapters of"):
        open_run(folder)


@pytest.mark.parametrize("exported", [True, False])
def test_training_goes_on_from_it_in_a_new_run(
    exported: bool, converted: Convert, unmask: Call, corpus: Path, tmp_path: Path
) -> None:
    run, model = converted("llama", "--recipe", "fast")
    again, options = (
        tmp_path / "again",
        ["--corpus.source", corpus, "--validation.blocks", 8, "--validation.draws", 2],
    )
    begin = ["train", "--init", model if exported else run, "--run", again, *options]
    begin += ["--corpus.block-size", 32, "--train.batch-size", 4, "--train.precision", "fp32"]
    status, text = unmask(*begin, "--recipe", "bell", "--train.steps", 1, "--train.device", "cpu")
    assert status == 0, text
    assert bounds(again)[0] == pytest.approx(bounds(run)[-1], abs=1e-5)
    before, after = open_run(run), open_run(again, "1")
    assert before.model.start == after.model.start and after.config.adapt.lora == 0
    assert unmask("train", "--run", again, "--resume", "--train.steps", 2)[0] == 0
    assert unmask("sample", again, "--length", 4, "--num", 1)[0] == 0
    status, text = unmask(*begin[:3], "--run", tmp_path / "no", *options, "--adapt.lora", 2)
    assert status == 2 and "--adapt.lora needs init to be a model of transformers" in text


def test_it_can_be_learnt_from_and_generates(converted: Convert) -> None:
    _, model = converted("gpt2", "--recipe", "ar")
    network = UnmaskAdaptedForCausalLM.from_pretrained(model)
    x = torch.tensor([[256, *b"the cat"]])
    loss = network(input_ids=x, labels=x).loss
    logp = network(input_ids=x).logits[:, :-1].log_softmax(-1).gather(2, x[:, 1:, None])
    torch.testing.assert_close(loss, -logp.mean())
    loss.backward()
    assert all(p.grad is not None for p in network.parameters())
    row, prompt = x, {"input_ids": x, "attention_mask": torch.ones_like(x)}
    found = network.generate(**prompt, max_new_tokens=3, do_sample=False, eos_token_id=None)
    for _ in range(3):
        row = torch.cat((row, network(row).logits[:, -1:].argmax(-1)), dim=1)
    assert torch.equal(found, row)


def test_a_file_without_its_output_layer_or_of_the_other_kind_is_refused(
    converted: Convert,
) -> None:
    _, model = converted("llama-untied")
    with pytest.raises(ValueError, match="no UnmaskAdaptedForCausalLM"):
        UnmaskAdaptedForCausalLM.from_pretrained(model)
    file = model / "model.safetensors"
    weights = load_file(file)
    del weights["head.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="lacks some of the output layer"):
        UnmaskAdaptedForMaskedLM.from_pretrained(model)
