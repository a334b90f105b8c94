"""A run is a folder: made from a configuration, trained in, opened again.

RUN/config.yaml     the resolved configuration
RUN/corpus.json     what it was trained on: SHA-256, documents, bytes, tokens
RUN/tokenizer/      so that sampling needs nothing from outside
RUN/metrics.jsonl   the record
RUN/checkpoints/    the weights
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from unmask.base.errors import UserError
from unmask.base.files import locked, write_whole
from unmask.config import Config, differences, load_config, save_config, with_options
from unmask.data import Data, Tokenizer, load_data, saved_tokenizer
from unmask.data.information import mutual_information, read_text
from unmask.data.recorded import RECORD
from unmask.model import Transformer, parameter_count
from unmask.recipe import is_auto, parse_recipe, with_bell
from unmask.recipe.auto import recommended_bell
from unmask.train import Checkpoint, Outcome, find_checkpoint, train
from unmask.train.device import choose_device
from unmask.train.metrics import check_sinks

CONTINUABLE = {"train.steps", "train.device", "train.keep", "train.save_every", "train.log_to"}
"""What may differ when a run is resumed; anything else would make it another run."""


def train_run(config: Config, folder: Path, *, resume: bool, console: Console) -> Outcome:
    """Train what a configuration says in a run folder.

    Args:
        resume: continue a run that is there; without one, start it.

    Raises:
        UserError: before any work, for whatever is wrong with the request.
        TrainingFailed: the loss or a gradient is no longer finite.
    """
    _check_folder(config, folder, resume)
    choose_device(config.train.device)
    check_sinks(config.train.log_to)
    _check_batch(config)
    find_checkpoint(folder / "checkpoints")  # a damaged one is told before the corpus is read
    known = folder if (folder / RECORD).is_file() else None
    data = load_data(config.corpus, console=console, run=known)
    if is_auto(config.recipe):
        config = settle_recipe(config, data, console)
        _check_folder(config, folder, resume)
    recipe = parse_recipe(config.recipe)
    model = build_model(config, data.tokenizer)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, wait=False) as free:
        if not free:
            raise UserError(f"--run {folder}: another process is training there")
        save_config(config, folder / "config.yaml")
        write_whole(folder / RECORD, json.dumps(data.facts, indent=2).encode())
        data.tokenizer.save(folder / "tokenizer")
        _introduce(config, data, model, folder, console)
        return train(
            model,
            recipe,
            data,
            config=config.train,
            validation=config.validation,
            seed=config.seed,
            folder=folder,
            console=console,
        )


def settle_recipe(config: Config, data: Data, console: Console) -> Config:
    """Put the numbers that the training text asks for in the place of ``auto``, if it is there.

    They are a function of the corpus alone (`unmask.analyze.recommended_bell`).

    Raises:
        UserError: the text is too short, or its tokens tell nothing about each other.
    """
    if not is_auto(config.recipe):
        return config
    with console.status("bell:auto: measuring the locality of the training text"):
        locality = mutual_information(read_text(data.train))
    bell = recommended_bell(locality).recipe.partition(":")[2]
    recipe = with_bell(config.recipe, bell)
    console.print(
        f"{config.recipe}: {recipe}, by the locality of the training text", highlight=False
    )
    return with_options(config, {"recipe": recipe})


def build_model(config: Config, tokenizer: Tokenizer) -> Transformer:
    """The untrained network of a configuration, of the kind that its recipe needs."""
    recipe = parse_recipe(config.recipe)
    return Transformer(
        config.model,
        tokenizer.vocab_size,
        tokenizer.never_predicted,
        causal=recipe.causal,
        start=tokenizer.mask_id if recipe.shifted else None,
        seed=config.seed,
    )


@dataclass(frozen=True)
class Run:
    """A trained run, opened: its configuration, tokenizer, and the weights of one checkpoint."""

    folder: Path
    config: Config
    tokenizer: Tokenizer
    model: Transformer
    checkpoint: Checkpoint


def open_run(folder: Path, checkpoint: str = "last") -> Run:
    """Open a run with the weights of a checkpoint (``last``, ``best`` or a step number).

    The averaged weights, where the run keeps them. The model is on the CPU, in evaluation mode.

    Raises:
        UserError: not a run, no checkpoint, or a damaged one.
    """
    if not (folder / "config.yaml").is_file():
        raise UserError(f"{folder} is not a run: it holds no config.yaml")
    config = load_config(folder / "config.yaml")
    found = find_checkpoint(folder / "checkpoints", checkpoint)
    if found is None:
        raise UserError(f"{folder} has no checkpoint yet: train it first")
    tokenizer = saved_tokenizer(folder / "tokenizer")
    model = build_model(config, tokenizer)
    model.load_state_dict(found.tensors("ema" if found.has("ema") else "model"))
    return Run(folder, config, tokenizer, model.eval(), found)


def _check_folder(config: Config, folder: Path, resume: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--run {folder} is a file, not a folder")
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not resume:
        raise UserError(
            f"--run {folder} exists already: add --resume to continue it, or choose another folder"
        )
    if not (folder / "config.yaml").is_file():
        raise UserError(f"cannot resume {folder}: it is not a run (it holds no config.yaml)")
    changed = differences(load_config(folder / "config.yaml"), config)
    changed = {key: values for key, values in changed.items() if key not in CONTINUABLE}
    if is_auto(config.recipe):  # looked at again when the corpus has given its numbers
        changed.pop("recipe", None)
    if changed:
        listed = "; ".join(f"{key}: {old} -> {new}" for key, (old, new) in changed.items())
        raise UserError(
            f"cannot resume {folder} with another configuration ({listed}); only "
            f"{', '.join(sorted(CONTINUABLE))} may change"
        )


def _check_batch(config: Config) -> None:
    if config.train.accumulation > config.train.batch_size:
        raise UserError(
            f"train.accumulation {config.train.accumulation} is more than "
            f"train.batch-size {config.train.batch_size}; at most that"
        )
    if not is_auto(config.recipe):  # which is no recipe yet, but never one of pairs by itself
        parse_recipe(config.recipe).places(torch.arange(1), config.train.batch_size)


def _introduce(
    config: Config, data: Data, model: Transformer, folder: Path, console: Console
) -> None:
    """Print what is about to be trained, on what, and the number to beat."""
    total, inner = parameter_count(model)
    train_facts, valid_facts = data.facts["train"], data.facts["valid"]
    lines = {
        "run": folder,
        "recipe": config.recipe,
        "model": f"{total:,} parameters ({inner:,} without embedding and head)",
        "corpus": f"{config.corpus.source}, tokenizer {config.corpus.tokenizer}, transform "
        f"{config.corpus.transform}: "
        f"{train_facts['tokens']:,} tokens to train on, {valid_facts['tokens']:,} to validate",
        "unigram": f"{data.valid.unigram_entropy():.4f} nats/token, the entropy of the validation "
        "text's token frequencies: what a model without context reaches",
    }
    for name, text in lines.items():
        console.print(f"[bold]{name:>8}[/bold]  {text}", highlight=False, soft_wrap=True)
