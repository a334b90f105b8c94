"""Configurations from files and options: strict values, every error with its key and line."""

import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unmask.base.errors import UserError
from unmask.config import (
    Config,
    differences,
    load_config,
    load_preset,
    preset_names,
    save_config,
    with_options,
)

OLD = """\
seed: 0
recipe: fast:time=truncated-normal,mean=0.5,std=0.1,low=0.0,high=1.0,weight=flat,\
masking=scattered,stratified=true,paired=false,ar_warmup=0.2,anneal=0.0,fit=none
corpus:
  source: rhymes
  valid_source: null
  valid_fraction: 0.15
  tokenizer: bpe:300
  block_size: 32
  packing: wrap
  transform: none
model: {layers: 1, width: 16, heads: 2, rope_theta: 10000.0}
train:
  steps: 40
  batch_size: 8
  accumulation: 1
  optimizer: muon
  learning_rate: 0.01
  beta1: 0.9
  beta2: 0.98
  weight_decay: 0.0
  warmup_steps: 2
  schedule: constant
  decay_fraction: 0.2
  grad_clip: 1.0
  ema: 0.0
  precision: fp32
  recompute: false
  compile: false
  device: cpu
  log_every: 1
  save_every: null
  keep: 1
  log_to: [tensorboard]
validation: {every: 10, blocks: 16, draws: 2, batch_size: 64, seed: 0}
"""


def complaint(tmp_path: Path, text: str) -> str:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        load_config(tmp_path / "c.yaml")
    message = str(caught.value)
    assert message.startswith(f"the configuration {tmp_path / 'c.yaml'}")
    return message.partition("c.yaml")[2].removeprefix(": ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train:\n  steps: yes", "line 2: train.steps: input should be a valid integer, not 'yes'"),
        ("train:\n  steps: true", "line 2: train.steps: input should be a valid integer, not True"),
        ("train: {steps: 010}", "line 1: train.steps: input should be a valid integer, not '010'"),
        ("train: {steps: 1:30}", "train.steps: input should be a valid integer, not '1:30'"),
        ("train: {steps: 1_000}", "train.steps: input should be a valid integer, not '1_000'"),
        ("train: {steps: 2.5}", "train.steps: input should be a valid integer, not 2.5"),
        ("train: {steps: '3'}", "train.steps: input should be a valid integer, not '3'"),
        ("train: {steps: 2020-01-01}", "train.steps: input should be a valid integer"),
        ("train: {steps: 5000000000}", "train.steps: input should be less than or equal to"),
        ("seed: 9223372036854775808", "line 1: seed: input should be less than or equal to"),
        (f"seed: {'9' * 5000}", "line 1: seed: input should be a valid integer"),
        ("train: {learning_rate: .inf}", "train.learning_rate: input should be a valid number"),
        ("train: {learning_rate: .nan}", "train.learning_rate: input should be a valid number"),
        ("train: {learning_rate: true}", "train.learning_rate: input should be a valid number"),
        ("train: {compile: 1}", "train.compile: input should be a valid boolean, not 1"),
        ("train: {optimizer: no}", "line 1: train.optimizer: unknown optimizer 'no'; valid: adamw"),
        ("train: {log_to: wandb}", "train.log_to: input should be a valid tuple, not 'wandb'"),
        ("recipe: 3", "line 1: recipe: input should be a valid string, not 3"),
        ("recipe:", "line 1: recipe: input should be a valid string, not None"),
        ("\ntrain:\nseed: 1", "line 2: train: holds nothing; give it keys and values"),
        ("train: 3", "line 1: train: must hold keys and values, not 3"),
        ("train: [1]", "line 1: train: must hold keys and values, not [1]"),
        ("seed: 1\nseed: 2", "line 2: the key 'seed' is there twice"),
        ("train:\n  steps: 1\n  steps: 1", "line 3: the key 'train.steps' is there twice"),
        ("train:\n  stepz: 1", "line 2: unknown key 'train.stepz' (did you mean 'steps'?)"),
        ("tain: 1", "line 1: unknown key 'tain' (did you mean 'train'?)"),
        ("", " must hold keys and values"),
        ("- 1", " must hold keys and values"),
        ("seed: [", "line 1: "),
    ],
)
def test_a_bad_file_is_told_with_key_and_line(text: str, said: str, tmp_path: Path) -> None:
    assert complaint(tmp_path, text).startswith(said) or said in complaint(tmp_path, text)


def test_all_problems_are_told_each_with_its_line(tmp_path: Path) -> None:
    message = complaint(tmp_path, "seed: -1\nmodel:\n  layers: 0\n  width: x\ntrain:\n")
    for part in (
        "line 1: seed:",
        "line 3: model.layers:",
        "line 4: model.width:",
        "line 5: train:",
    ):
        assert part in message


def test_unreadable_files(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"recipe: \xe9")
    for path, said in ((tmp_path / "no", "No such file"), (tmp_path, "directory"),
                       (tmp_path / "latin", "not UTF-8")):  # fmt: skip
        with pytest.raises(UserError, match=said):
            load_config(path)


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "0.001", ".001", "1.0e-3"])
def test_a_number_with_an_exponent(text: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(f"train: {{learning_rate: {text}}}")
    assert load_config(tmp_path / "c.yaml").train.learning_rate == 1e-3
    assert with_options(Config(), {"train.learning-rate": text}).train.learning_rate == 1e-3


def test_presets_load() -> None:
    assert all(isinstance(load_preset(name), Config) for name in preset_names())


def test_a_configuration_written_before_opens(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(OLD)
    config = load_config(tmp_path / "config.yaml")
    assert (config.train.learning_rate, config.train.save_every) == (0.01, None)
    assert config.train.log_to == ("tensorboard",) and config.corpus.source == "rhymes"
    save_config(config, tmp_path / "again.yaml")
    assert load_config(tmp_path / "again.yaml") == config


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    source=st.text(min_size=1, max_size=12)
    | st.sampled_from(["1e-3", "yes", "010", "null", "~", "1:30", "2020-01-01", "3", "true"]),
    rate=st.floats(0, exclude_min=True, allow_infinity=False),
    seed=st.integers(0, 2**63 - 1),
)
def test_what_is_saved_opens(tmp_path: Path, source: str, rate: float, seed: int) -> None:
    options = {"corpus.source": source, "train.learning-rate": rate, "seed": seed}
    config = with_options(Config(), options)
    assert config == with_options(Config(), {"corpus.source": source, "seed": str(seed),
                                             "train.learning_rate": repr(rate)})  # fmt: skip
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config
    changed = differences(config, with_options(config, {"seed": seed // 2}))
    assert set(changed) == ({"seed"} if seed else set())


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("train.steps", "yes", "train.steps: input should be a valid integer, not 'yes'"),
        ("train.steps", "1_000", "not '1_000'"),
        ("train.steps", "2.0", "train.steps: input should be a valid integer, not 2.0"),
        ("train.steps", "", "train.steps: input should be a valid integer, not None"),
        ("train.steps", "9" * 5000, "train.steps: input should be a valid integer"),
        ("train.steps", "[1", "train.steps: '[1' is no value: line 1: "),
        ("train.learning-rate", "nan", "train.learning_rate: input should be a valid number"),
        ("train.learning-rate", math.inf, "train.learning_rate: input should be a finite number"),
        ("train.compile", "yes", "train.compile: input should be a valid boolean, not 'yes'"),
        ("train", "3", "train: must hold keys and values, not 3"),
        ("train.steps.more", "3", "train.steps: input should be a valid integer"),
        ("seed", "x", "seed: input should be a valid integer, not 'x'"),
        ("", "x", "unknown key ''"),
        ("train..", "x", "unknown key 'train.'"),
        ("recipe", "bell:mean=", "recipe: recipe 'bell': mean must be a number, not ''"),
        ("recipe", "bell:mean=nan", "mean must be a number, not 'nan'"),
        ("recipe", "bell:mean=٣", "mean must be a number, not '٣'"),
        ("recipe", "bell:mean=0_1", "mean must be a number, not '0_1'"),
        ("recipe", "bell:mean=" + "9" * 5000, "mean must be a number"),
        ("recipe", "bell:mean= 0.5", "mean must be a number, not ' 0.5'"),
        ("recipe", "", "recipe: unknown recipe ''"),
    ],
)
def test_a_bad_option_is_told(name: str, value: object, said: str) -> None:
    with pytest.raises(UserError) as caught:
        with_options(Config(), {name: value})
    assert said in str(caught.value) and len(str(caught.value)) < 1000


def test_text_stays_text() -> None:
    """Where the field is text, an option is what was written, whatever YAML would make of it."""
    for text in ("123", "yes", "null", "[x]", "a: b", "1e-3"):
        assert with_options(Config(), {"corpus.source": text}).corpus.source == text
