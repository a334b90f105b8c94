"""A run is a folder: made from a configuration, trained in, opened again.

RUN/config.yaml     the resolved configuration
RUN/corpus.json     what it was trained on: SHA-256, documents, bytes, tokens
RUN/tokenizer/      so that sampling needs nothing from outside
RUN/metrics.jsonl   the record
RUN/checkpoints/    the weights
"""

import json
import os
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text
from safetensors import SafetensorError
from safetensors.torch import load_file

from unmask.base.errors import UserError, shown
from unmask.base.files import (
    check_writable,
    is_unfinished,
    locked,
    read_utf8,
    remove_unfinished,
    write_whole,
)
from unmask.base.memory import check_memory
from unmask.config import Config, differences, load_config, save_config, with_options
from unmask.data.information import mutual_information, read_text
from unmask.data.load import Data, load_data
from unmask.data.recorded import RECORD, check_same_tokenizer
from unmask.data.tokenizers import ByteTokenizer, Tokenizer, saved_tokenizer
from unmask.model.network import Network, parameter_count
from unmask.model.transformer import Transformer
from unmask.recipe.auto import recommended_bell
from unmask.recipe.parse import is_auto, parse_recipe, short_spelling, with_bell
from unmask.start import (
    NETWORK,
    check_adapt,
    check_parts,
    is_run,
    pretrained_name,
    save_structure,
    settle_pretrained,
    settle_trained_on,
    start_from,
)
from unmask.train.checkpoint import Checkpoint, Progress, checkpoint_steps, find_checkpoint
from unmask.train.device import choose_device
from unmask.train.loop import Outcome, TrainingFailed, train
from unmask.train.metrics import BLOCKS, METRICS, check_sinks, read_records
from unmask.train.processes import EndedElsewhere, Processes, restarted, started

CONTINUABLE = {
    f"train.{name}" for name in ("steps", "device", "parallel", "keep", "save_every", "log_to")
} | {"corpus.processes"}
"""What may differ when a run is resumed; anything else would make it another run."""


def train_run(config: Config, folder: Path, *, resume: bool, console: Console) -> Outcome:
    """Train what a configuration says in a run folder.

    Nothing is written before everything is checked: a refused request changes no file of a run.
    Of several processes the first one checks, packs and writes; the others join it after that.

    Args:
        resume: continue the run that is there; otherwise the folder must be new or empty, or
            torchrun has restarted this very run.

    Raises:
        UserError: before any work, for whatever is wrong with the request.
        TrainingFailed: the loss or a gradient is no longer finite.
    """
    with started(config.train.parallel) as processes, ExitStack() as held:
        with processes.preparation():
            if processes.main:
                resume = resume or _goes_on_by_itself(config, folder, console)
                config, data, model = _prepare(config, folder, resume, console, processes, held)
        if not processes.main:
            console.quiet = True
            config = load_config(folder / "config.yaml")
            data = load_data(config.corpus, run=folder)
            trained = bool(checkpoint_steps(folder / "checkpoints"))
            model = build_model(config, data.tokenizer, folder if trained else None)
        try:
            return train(
                model,
                parse_recipe(config.recipe),
                data,
                config=config.train,
                validation=config.validation,
                seed=config.seed,
                folder=folder,
                console=console,
                processes=processes,
            )
        except TrainingFailed:  # which all find at once
            if processes.main:
                raise
            raise EndedElsewhere from None


def _prepare(
    config: Config,
    folder: Path,
    resume: bool,
    console: Console,
    processes: Processes,
    held: ExitStack,
) -> tuple[Config, Data, Network]:
    """Check everything, read the corpus, and make the run's folder, which stays locked."""
    _check_folder(config, folder, resume)
    device = choose_device(config.train.device)
    if config.train.compile and device.type == "cpu":
        _check_compiler()
    check_sinks(config.train.log_to)
    _check_batch(config, processes.size)
    _check_memory(config)
    checkpoint = _check_records(folder)  # before the corpus is read
    config = config if resume else settle_start(config)
    known = folder if (folder / RECORD).is_file() else None
    data = load_data(config.corpus, console=console, run=known)
    if is_auto(config.recipe):
        config = settle_recipe(config, data, console)
    model = build_model(config, data.tokenizer, folder if checkpoint is not None else None)
    if checkpoint is not None:
        for name in ("model", "ema") if config.train.ema else ("model",):
            checkpoint.load_into(model, name)
        conversations = config.corpus.messages_field is not None
        check_same_tokenizer(folder, data.tokenizer, conversations=conversations)
    folder.mkdir(parents=True, exist_ok=True)
    if not held.enter_context(locked(folder, wait=False)):
        raise UserError(f"run {folder}: another process is training there")
    _check_folder(config, folder, resume)  # by now another may have, and a recipe is settled
    remove_unfinished(folder)
    save_config(config, folder / "config.yaml")
    write_whole(folder / RECORD, json.dumps(data.facts, indent=2).encode())
    data.tokenizer.save(folder / "tokenizer")
    save_structure(model, folder)
    _introduce(config, data, model, folder, console)
    return config, data, model


def _goes_on_by_itself(config: Config, folder: Path, console: Console) -> bool:
    """Whether torchrun starts this run again, and the folder holds what it has come to."""
    if not restarted() or not (folder / "config.yaml").is_file():
        return False
    changed = differences(load_config(folder / "config.yaml"), config)
    if is_auto(config.recipe):
        changed.pop("recipe", None)
    if not changed:
        console.print(f"restarted: {folder} goes on where its latest checkpoint left it")
    return not changed


def check_continuable(config: Config, folder: Path) -> None:
    """Make sure that training a run on under a configuration leaves it the same run.

    Raises:
        UserError: more than `CONTINUABLE` differs from the run's own configuration, or the run is
            past the last step already.
    """
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
    done = max(checkpoint_steps(folder / "checkpoints"), default=0)
    if done > config.train.steps:
        raise UserError(
            f"cannot resume {folder} for train.steps {config.train.steps}: it has done {done}; "
            "give at least that"
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
        locality = mutual_information(read_text(data.train.measured()))
    bell = recommended_bell(locality).recipe.partition(":")[2]
    recipe = with_bell(config.recipe, bell)
    console.print(f"{config.recipe}: {recipe}, by the locality of the training text")
    return with_options(config, {"recipe": recipe})


def predicts_before_place(config: Config) -> bool:
    """Whether a start symbol stands before the tokens, each predicted at the position before it."""
    model = config.model
    return parse_recipe(config.recipe).start_symbol or model.shift or model.late > 0


def build_model(config: Config, tokenizer: Tokenizer, folder: Path | None = None) -> Network:
    """The network of a configuration, of the kind that its recipe needs.

    Args:
        folder: of a run, whose checkpoint will bring the weights. None: they are those that
            training begins with, drawn by the seed or taken from ``init``.

    Raises:
        UserError: what ``init`` names cannot be loaded, or cannot be trained so.
    """
    before = _run_before(config) if folder is None else None
    known = folder or before  # a run whose network it is
    if config.init is not None if known is None else (known / NETWORK).is_dir():
        network: Network = start_from(config, tokenizer, known)
    else:
        network = _own_network(config, tokenizer)
    if before is not None:
        network.load_state_dict(open_run(before).model.state_dict())
    return network


def _run_before(config: Config) -> Path | None:
    """The run that a run begins from, if it does from one."""
    return Path(config.init) if config.init is not None and is_run(config.init) else None


def _own_network(config: Config, tokenizer: Tokenizer) -> Transformer:
    recipe, model = parse_recipe(config.recipe), config.model
    start = predicts_before_place(config)
    return Transformer(
        model,
        tokenizer.vocab_size,
        tokenizer.never_predicted,
        mask_id=tokenizer.mask_id,
        causal=recipe.causal,
        start=tokenizer.mask_id if start else None,
        separator=tokenizer.separator_id if config.corpus.attend == "document" else None,
        seed=config.seed,
    )


def settle_start(config: Config) -> Config:
    """Complete the configuration of a run that starts from trained weights.

    From a run it takes the network and the tokenizer.

    Raises:
        UserError: there is no such model, or it cannot do what the rest of the configuration asks.
    """
    check_adapt(config)
    name = config.init
    if name is None:
        return config
    if not is_run(name):
        return settle_pretrained(config)
    before = load_config(Path(name) / "config.yaml")
    kept = Path(name) / ("" if is_export(Path(name)) else "tokenizer")
    own_bytes = isinstance(saved_tokenizer(kept), ByteTokenizer)
    config = with_options(config, {"corpus.tokenizer": "bytes" if own_bytes else str(kept)})
    if pretrained_name(config) is not None:
        return settle_trained_on(config, before)
    shift = predicts_before_place(before)
    if parse_recipe(config.recipe).start_symbol and not shift:
        raise UserError(
            f"init: the run {name} predicts tokens at their own places, and recipe "
            f"{config.recipe.partition(':')[0]} at the place before; valid: a recipe without "
            "next-token"
        )
    network = before.model.model_copy(update={"shift": shift})
    check_parts(config, network, name)
    return with_options(config, {"model": network.model_dump()})


@dataclass(frozen=True)
class Run:
    """A trained run, opened: its configuration, tokenizer, and the weights of one checkpoint."""

    folder: Path
    config: Config
    tokenizer: Tokenizer
    model: Network
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
    _check_memory(config)
    if is_export(folder):
        return _open_export(folder, config, checkpoint)
    found = find_checkpoint(folder / "checkpoints", checkpoint)
    if found is None:
        raise UserError(f"{folder} has no checkpoint yet: train it first")
    tokenizer = saved_tokenizer(folder / "tokenizer")
    model = build_model(config, tokenizer, folder)
    found.load_into(model, "ema" if found.has("ema") else "model")
    return Run(folder, config, tokenizer, model.eval(), found)


def is_export(folder: Path) -> bool:
    """Whether a folder is a model that `unmask convert` has written, with a run's config.yaml."""
    return all((folder / name).is_file() for name in ("config.yaml", "model.safetensors"))


def _open_export(folder: Path, config: Config, checkpoint: str) -> Run:
    tokenizer = saved_tokenizer(folder)
    model = build_model(config, tokenizer, folder)
    try:
        weights = load_file(folder / "model.safetensors")
        model.load_state_dict({k.removeprefix("model."): v for k, v in weights.items()})
        step = int(json.loads(read_utf8(folder / "config.json"))["step"])
    except (RuntimeError, SafetensorError, ValueError, KeyError, TypeError) as error:
        why = str(error).splitlines()[0]
        raise UserError(f"the exported model {folder} is damaged: {why}") from None
    if checkpoint not in ("last", "best", str(step)):
        raise UserError(
            f"no checkpoint {shown(checkpoint)}: {folder} is an exported model, which has one; "
            f"valid: last, best or {step}"
        )
    return Run(folder, config, tokenizer, model.eval(), Checkpoint(folder, Progress(step), {}))


def _check_folder(config: Config, folder: Path, resume: bool) -> None:
    check_writable(folder, "run")
    if resume:
        if is_export(folder):
            raise UserError(f"cannot resume {folder}: it is an exported model; init from it")
        if not (folder / "config.yaml").is_file():
            there = "it holds no config.yaml" if folder.exists() else "there is no such folder"
            raise UserError(f"cannot resume {folder}: it is not a run ({there})")
        check_continuable(config, folder)
    elif folder.exists() and any(not is_unfinished(path) for path in folder.iterdir()):
        raise UserError(f"run {folder} exists already: resume it, or choose another folder")


def _check_records(folder: Path) -> Checkpoint | None:
    """The checkpoint that training goes on from, and records that can be read."""
    for name in (METRICS, BLOCKS):
        _, damage = read_records(folder / name)
        if damage:
            raise UserError(damage[0])
    return find_checkpoint(folder / "checkpoints")


def _check_compiler() -> None:
    names = [os.environ.get("CXX", "g++"), "clang++", "c++"]
    if not any(map(shutil.which, names)):
        raise UserError(f"train.compile needs a C++ compiler, and there is none of {names} here")


def _check_memory(config: Config) -> None:
    """Refuse what the weights alone, or the token ids of a step alone, have no room for."""
    model, batch, length = config.model, config.train.batch_size, config.corpus.block_size
    weights, ids = model.block_parameters, batch * length
    check_memory(
        f"model.layers {model.layers} of model.width {model.width} are {weights:,} weights "
        "of 4 bytes",
        4 * weights,
    )
    check_memory(
        f"train.batch_size {batch} x corpus.block_size {length} are {ids:,} token ids of 8 bytes",
        8 * ids,
    )


def _check_batch(config: Config, processes: int) -> None:
    if processes > config.train.batch_size:
        raise UserError(
            f"{processes} processes for train.batch_size {config.train.batch_size}: "
            "each needs a sequence"
        )
    if config.train.accumulation > config.train.batch_size:
        raise UserError(
            f"train.accumulation {config.train.accumulation} is more than "
            f"train.batch_size {config.train.batch_size}; at most that"
        )
    if not is_auto(config.recipe):  # which is no recipe yet, but never one of pairs by itself
        parse_recipe(config.recipe).check_batch_size(config.train.batch_size)


def _introduce(config: Config, data: Data, model: Network, folder: Path, console: Console) -> None:
    """Print what is about to be trained, on what, and the number to beat."""
    total, inner = parameter_count(model)
    train_facts, valid_facts = data.facts["train"], data.facts["valid"]
    to_train = f"{train_facts['tokens']:,} tokens" if "tokens" in train_facts else "a stream"
    lines = {
        "run": folder,
        "recipe": short_spelling(config.recipe),
        "model": f"{total:,} parameters ({inner:,} without embedding and head)",
        "corpus": f"{config.corpus.source}, tokenizer {config.corpus.tokenizer}, transform "
        f"{config.corpus.transform}: "
        f"{to_train} to train on, {valid_facts['tokens']:,} to validate",
        "unigram": f"{data.valid.unigram_entropy():.4f} nats/token, the entropy of the validation "
        "text's token frequencies: what a model without context reaches",
    }
    for name, text in lines.items():
        console.print(Text(f"{name:>8}  ", "bold") + Text(str(text)), soft_wrap=True)
