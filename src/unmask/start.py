"""Runs that start from a pretrained network: ``init`` and ``adapt`` of a configuration."""

from pathlib import Path
from typing import Any

import torch

from unmask.base.errors import UserError
from unmask.config import Config, with_options
from unmask.data.tokenizers import HubTokenizer, Tokenizer, hub_tokenizer
from unmask.model.config import AdaptConfig, ModelConfig
from unmask.model.pretrained import (
    CausalLM,
    MaskedLM,
    Outline,
    Pretrained,
    add_adapters,
    is_causal_lm,
    load_causal_network,
    load_masked_network,
    longest_input,
    make_room,
    unlearnt,
)
from unmask.recipe.parse import parse_recipe

_NEW_TOKENS = 2
"""At most: a mask and a separator, which a tokenizer without them is given."""
_SAME_TOKENS = 0.99
"""Of a model's tokens, what a tokenizer of one's own must keep: a few may have been renamed."""
_SIZES = {"layers", "width", "heads", "rope_theta"}
"""What presets set too; a network that ``init`` brings has its own, so they are not read."""
NETWORK = "network"
"""Folder of a run that holds the configuration of a network of `transformers`."""


def settle_pretrained(config: Config) -> Config:
    """Complete the configuration of a run that starts from a model of `transformers`.

    Its tokenizer is the model's where none is named.

    Raises:
        UserError: the model is not there or no language model, or cannot do what the rest asks.
    """
    name = config.init
    assert name is not None
    causal = is_causal_lm(name)
    _check_network(config, name, causal)
    if config.corpus.tokenizer.startswith("bpe:"):
        raise UserError(
            f"corpus.tokenizer {config.corpus.tokenizer}: {name} has a tokenizer of its "
            "own; leave it out, or name the folder of that one"
        )
    if config.corpus.tokenizer == "bytes":
        config = with_options(config, {"corpus.tokenizer": name})
    elif config.corpus.tokenizer != name:
        _check_vocabulary(config.corpus.tokenizer, name)
    if not causal:
        check_mask(hub_tokenizer(config.corpus.tokenizer), name)
    return config


def settle_trained_on(config: Config, before: Config) -> Config:
    """Complete the configuration of a run that starts from a run's network of `transformers`.

    Args:
        config: of the new run.
        before: of the run that ``init`` names, or of its export.

    Raises:
        UserError: that run holds adapters alone, or its network cannot do what is asked.
    """
    name, network = config.init, pretrained_name(config)
    assert name is not None and network is not None
    if before.adapt.lora:
        raise UserError(
            f"init: the run {name} holds adapters alone; convert it, and init from that"
        )
    if config.adapt.lora:
        raise UserError("adapt.lora needs init to be a model of transformers, and no run")
    config = with_options(config, {"adapt.keep_shift": before.adapt.keep_shift})
    _check_network(config, name, is_causal_lm(network))
    return config


def is_run(name: str) -> bool:
    """Whether that is the folder of a run."""
    return (Path(name) / "config.yaml").is_file()


def pretrained_name(config: Config) -> str | None:
    """Where the network of `transformers` that a run begins with has its configuration.

    None: it begins with a network of unmask.
    """
    if config.init is None or not is_run(config.init):
        return config.init
    kept = Path(config.init) / NETWORK
    return str(kept) if kept.is_dir() else None


def check_parts(config: Config, network: ModelConfig, name: str) -> None:
    """Make sure that nothing is asked of a network that ``init`` brings and it does not have.

    Sizes are not looked at, for presets set them too.

    Args:
        config: what is asked.
        network: what there is.
        name: of the model or run that brings it.

    Raises:
        UserError: a part is asked for that is another there.
    """
    plain = ModelConfig()
    asked = [
        f"model.{part}"
        for part in ModelConfig.model_fields
        if part not in _SIZES
        and getattr(config.model, part) not in (getattr(plain, part), getattr(network, part))
    ]
    if asked:
        raise UserError(
            f"{', '.join(asked)}: with init the network is that of {name}, and stays as it is"
        )


def _check_network(config: Config, name: str, causal: bool) -> None:
    check_parts(config, ModelConfig(), name)
    recipe = parse_recipe(config.recipe) if "auto" not in config.recipe else None
    if recipe is not None and recipe.start_symbol and not (causal and config.adapt.keep_shift):
        why = "adapt.keep_shift is off" if causal else f"{name} is a masked language model"
        raise UserError(f"recipe {recipe.name} trains autoregressively too, but {why}")


def _check_vocabulary(tokenizer: str, name: str) -> None:
    """Make sure that a tokenizer gives a model's tokens the ids that the model knows them by.

    Raises:
        UserError: it is another model's.
    """
    given = hub_tokenizer(tokenizer).of_transformers().get_vocab()
    try:
        known = hub_tokenizer(name).of_transformers().get_vocab()
    except UserError:  # the model has come without one, which is why another is named
        return
    same = sum(given.get(token) == i for token, i in known.items())
    if same < _SAME_TOKENS * len(known):
        raise UserError(
            f"corpus.tokenizer {tokenizer}: it knows {same:,} of the {len(known):,} tokens of "
            f"{name} by the same id, so it is another model's; leave it out"
        )


def start_from(config: Config, tokenizer: Tokenizer, folder: Path | None) -> Pretrained:
    """The network of `transformers` that a run trains.

    Args:
        config: settled.
        tokenizer: the run's.
        folder: of a run, this one or the one that ``init`` names, whose checkpoint will bring the
            weights; None: they are the model's own.

    Raises:
        UserError: it cannot be loaded, does not go with the tokenizer, or cannot look both ways.
    """
    adapters = config.adapt.lora
    name = str(folder / NETWORK) if folder is not None and not adapters else config.init
    assert name is not None
    try:
        causal = is_causal_lm(name)
        if folder is not None and not adapters:
            network = unlearnt(name, causal)
        else:
            network = (load_causal_network if causal else load_masked_network)(name)
    except UserError as error:
        if folder is None:
            raise
        raise UserError(
            f"{folder} holds adapters of {name}, which is needed too: {error}"
        ) from None
    _check_length(config, network, name)
    if not causal:
        if config.adapt.opening:
            raise UserError(
                f"adapt.opening: {name} is a masked language model, whose attention is open already"
            )
        if config.corpus.attend == "document":
            raise UserError(
                f"corpus.attend: {name} is a masked language model, whose attention goes over "
                "whole blocks; valid: block"
            )
        model: Pretrained = masked_lm(network, tokenizer, name)
    else:
        network.config.architectures = [type(network).__name__]
        new = [] if getattr(tokenizer, "had_mask", False) else [tokenizer.mask_id]
        rows = network.get_input_embeddings().num_embeddings
        if tokenizer.vocab_size > rows + _NEW_TOKENS:
            raise UserError(
                f"corpus.tokenizer: it has {tokenizer.vocab_size} tokens, and {name} has {rows}; "
                "they do not belong together"
            )
        make_room(network, tokenizer.vocab_size, [*new, *range(rows, tokenizer.vocab_size)])
        start = network.config.bos_token_id
        model = CausalLM(
            network,
            tokenizer.never_predicted,
            tokenizer.vocab_size,
            start=(tokenizer.separator_id if start is None else start)
            if config.adapt.keep_shift
            else None,
            causal=parse_recipe(config.recipe).causal,
            separator=tokenizer.separator_id if config.corpus.attend == "document" else None,
            opening=config.adapt.opening,
        )
    if adapters:
        add_adapters(model, adapters, config.seed)
    return model.train()


def outline(config: Config) -> Pretrained:
    """The network that a run starts from, with no weights: only its shape is read.

    Raises:
        UserError: ``init`` names no model that can be had.
    """
    name = pretrained_name(config)
    assert name is not None
    with torch.device("meta"):
        network = unlearnt(name, is_causal_lm(name))
    layer = network.get_output_embeddings()
    model = Outline(network, layer, [], layer.out_features)
    if config.adapt.lora:
        add_adapters(model, config.adapt.lora, config.seed)
    return model


def masked_lm(network: Any, tokenizer: Tokenizer, name: str) -> MaskedLM:
    """A masked language model of `transformers` with its tokenizer, as a denoiser.

    Raises:
        UserError: they do not go together, or there is no mask token.
    """
    check_mask(tokenizer, name)
    assert isinstance(tokenizer, HubTokenizer)
    pad_id = network.config.pad_token_id
    pad_id = tokenizer.separator_id if pad_id is None else pad_id
    never, size = tokenizer.never_predicted, tokenizer.vocab_size
    return MaskedLM(network, tokenizer.frame, pad_id, never, size)


def check_mask(tokenizer: Tokenizer, name: str) -> None:
    """Make sure that a masked language model's tokenizer has a mask token.

    Raises:
        UserError: it has none.
    """
    if not isinstance(tokenizer, HubTokenizer) or not tokenizer.had_mask:
        raise UserError(
            f"{name} has no mask token: only a masked language model (BERT, ModernBERT ...) "
            "is a denoiser"
        )


def largest_block(network: Any, tokenizer: Tokenizer) -> int:
    """The most tokens of a text that a network of `transformers` reads at once."""
    frame = getattr(tokenizer, "frame", ())
    return longest_input(network) - sum(i is not None for i in frame)


def save_structure(model: object, folder: Path) -> None:
    """Keep what a network of `transformers` is made from in a run's folder."""
    if isinstance(model, Pretrained):
        model.network.config.save_pretrained(str(folder / NETWORK))


def check_adapt(config: Config) -> None:
    """Make sure that ``adapt`` is not set where there is nothing to adapt.

    Raises:
        UserError: it is.
    """
    if config.init is None and config.adapt != AdaptConfig():
        raise UserError(
            "adapt.keep_shift, adapt.opening and adapt.lora need init, a pretrained model"
        )


def _check_length(config: Config, network: Any, name: str) -> None:
    longest = longest_input(network)
    if config.corpus.block_size >= longest:
        raise UserError(
            f"corpus.block_size {config.corpus.block_size}: {name} reads at most {longest} tokens, "
            "the special ones included"
        )
