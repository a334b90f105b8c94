"""The ready configurations, and what a dry run says that a run costs."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tiny_networks import make
from unmask.config import load_config, load_preset, with_options
from unmask.cost import UTILISATION, Cost, cost_of
from unmask.model.config import ModelConfig
from unmask.model.flops import training_flops
from unmask.model.network import parameter_count
from unmask.model.transformer import Transformer
from unmask.train.config import TrainConfig
from unmask.train.optim import OPTIMIZERS, build_optimizers

Call = Callable[..., tuple[int, str]]
FOLDER = Path(__file__).parent.parent / "configs"
BERT, GPT2 = 30_522, 50_258
PARAMETERS = {
    "lm1b-wrapped": (BERT, 131_837_184),
    "lm1b-padded": (BERT, 131_837_184),
    "openwebtext": (GPT2, 162_151_680),
    "fineweb-edu-1b": (GPT2, 1_012_283_392),
    "cpt-1b": (0, 1_100_048_384),
}
TINY_LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "vocab_size": 32_000,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}
"""The shape of the model that cpt-1b starts from, as its config.json on the hub says."""


def test_every_one_is_known() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_it_has_its_parameters_and_costs_what_its_comment_says(name: str, tmp_path: Path) -> None:
    vocab, parameters = PARAMETERS[name]
    config = load_config(FOLDER / f"{name}.yaml")
    if config.init is not None:
        (tmp_path / "config.json").write_text(json.dumps(TINY_LLAMA))
        config = with_options(config, {"init": str(tmp_path)})
    cost = cost_of(config, vocab)
    assert cost.parameters == parameters
    said = (FOLDER / f"{name}.yaml").read_text()
    (flops,) = re.findall(r"says ([0-9.e]+) FLOPs,\n", said)
    (hours,) = re.findall(r"^# (\d+) hours of one H100 at 40%", said, re.MULTILINE)
    assert f"{cost.flops:.1e}".replace("+", "") == flops
    assert round(cost.h100_hours(UTILISATION)) == int(hours)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if "1b" in name else pytest.mark.slow) for name in PARAMETERS],
)
def test_a_small_twin_trains(name: str, unmask: Call, small: list[str], tmp_path: Path) -> None:
    config, run = FOLDER / f"{name}.yaml", tmp_path / "run"
    options = [*small, "--corpus.tokenizer", "bytes", "--corpus.valid-fraction", 0.3]
    options += ["--train.steps", 2, "--train.accumulation", 2, "--train.no-recompute"]
    if name == "cpt-1b":
        source = make("llama", tmp_path / "model")
        options += ["--init", source, "--corpus.tokenizer", source, "--train.parallel", "auto"]
    status, text = unmask("train", "--config", config, "--run", run, *options)
    assert status == 0, text
    assert "step       2  NELBO" in text


def small_cost(model: ModelConfig, train: TrainConfig, recipe: str = "standard") -> Cost:
    options = {"model": model.model_dump(), "train": train.model_dump(), "recipe": recipe}
    return cost_of(with_options(load_preset("nano"), options), 258)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_state_is_counted_to_the_byte(optimizer: str) -> None:
    shape = ModelConfig(layers=3, width=32, heads=2)
    model = Transformer(shape, 258)
    train = TrainConfig(optimizer=optimizer, ema=0.9)
    cost = small_cost(shape, train)
    assert (cost.parameters, cost.inner) == parameter_count(model)
    optimizers = build_optimizers(model, train)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    for _ in range(2):  # SOAP's first step only measures
        for each in optimizers:
            each.step()
    averages = [
        tensor.numel()
        for each in optimizers
        for state in each.state.values()
        for tensor in state.values()
        if isinstance(tensor, torch.Tensor) and tensor.ndim
    ]
    assert cost.state_bytes == 4 * (3 * cost.parameters + sum(averages))  # weights, theirs, EMA


def test_what_blocks_keep_is_about_what_is_said() -> None:
    shape = ModelConfig(layers=3, width=256, heads=4)
    model, kept = Transformer(shape, 258), dict[int, int]()
    cost = small_cost(shape, TrainConfig(batch_size=8, accumulation=4))

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        hidden = model(torch.zeros(2, 128, dtype=torch.int64))
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    seen = sum(size for place, size in kept.items() if place not in weights)
    assert hidden.requires_grad
    assert cost.activation_bytes == pytest.approx(seen, rel=0.2)


def test_a_recipe_costs_what_its_phases_do() -> None:
    shape = ModelConfig(layers=2, width=32, heads=2)
    train = TrainConfig(steps=40, batch_size=8)
    cost = small_cost(shape, train, "fast:next-token=1@0.5/0@0.5")
    ones = torch.ones(8)
    causal = training_flops(shape, 258, 128, ones, causal=True, start=True)
    masked = training_flops(shape, 258, 128, ones / 2, causal=False, start=True)
    assert cost.flops_per_step == pytest.approx((causal + masked) / 2, rel=1e-3)
    assert cost.tokens == 40 * 8 * 128 == 40 * cost.tokens_per_step
    assert cost.hours(1024) == pytest.approx(40 / 3600)


def test_a_dry_run_says_it_and_touches_nothing(unmask: Call, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ["--run", run, "--dry-run", "--corpus.source", tmp_path / "none"]
    status, text = unmask("train", *options, "--tokens-per-second", 2275.5556)
    assert status == 0, text
    assert "870,272 (804,224 without embedding and head)" in text
    assert "4,096 a step, 8,192,000 in all" in text and "1.00 at 2,276 tokens/s" in text
    assert not run.exists()
    status, text = unmask("train", *options, "--train.steps", 2, "--tokens-per-second", 1e4)
    assert "under 0.01 of one H100" in text and "under 0.01 at 10,000 tokens/s" in text
    status, text = unmask("train", *options, "--corpus.tokenizer", "no-such-tokenizer")
    assert status == 2 and "no-such-tokenizer" in text
    more = ["--corpus.tokenizer", "no-such-tokenizer", "--vocabulary", 1000]
    assert unmask("train", *options, *more)[0] == 0
