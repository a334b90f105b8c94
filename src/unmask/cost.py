"""What a run will cost, from its configuration alone."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from unmask.config import Config
from unmask.model.flops import training_flops
from unmask.model.network import parameter_count
from unmask.recipe.parse import parse_recipe
from unmask.recipe.recipe import Portion
from unmask.run import predicts_before_place
from unmask.start import outline, pretrained_name
from unmask.train.batch import CONDITIONED
from unmask.train.device import PEAKS
from unmask.train.optim import KEPT

NUMBERS_KEPT = 21
"""Floats that a block keeps for its backward pass, for each token and unit of width: measured at
``small`` (docs/experiments/2026-11-25-performance.md), to within a tenth."""
UTILISATION = 0.4
"""The part of it that good training code reaches."""
LOOKED_AT = 50
"""Steps, evenly over the run, whose mean cost is taken: recipes change as they go."""


@dataclass(frozen=True)
class Cost:
    """What a run takes.

    Attributes:
        parameters: all of them.
        inner: those outside embedding and head.
        tokens_per_step, tokens: of the global batch, and of the run.
        flops_per_step: forward and backward, on average over the run.
        flops: of the run.
        state_bytes: weights, gradients, the optimiser's averages and the averaged weights; on every
            device.
        activation_bytes: what the blocks of a micro-batch keep, about.
    """

    parameters: int
    inner: int
    tokens_per_step: int
    tokens: int
    flops_per_step: float
    flops: float
    state_bytes: int
    activation_bytes: int

    def hours(self, tokens_per_second: float) -> float:
        """Of training at that speed."""
        return self.tokens / tokens_per_second / 3600

    def h100_hours(self, utilisation: float) -> float:
        """Of one H100 at that part of its peak."""
        return self.flops / (PEAKS["H100"] * utilisation) / 3600


def cost_of(config: Config, vocab_size: int) -> Cost:
    """What a run of that configuration takes, with so many entries in the vocabulary.

    Raises:
        UserError: a recipe that is not valid, or ``bell:auto``, which is none yet; ``init`` names
            no model that can be had.
    """
    model, length = config.model, config.corpus.block_size
    if pretrained_name(config) is not None:
        return _cost_of_pretrained(config)
    inner = model.inner_parameters
    parameters = inner + (2 + model.value_embedding) * vocab_size * model.width

    def flops(portion: Portion) -> float:
        return training_flops(
            model,
            vocab_size,
            length,
            portion.t,
            start=predicts_before_place(config),
            conditioned=CONDITIONED,
            **_how(config, portion),
        )

    return _cost(
        config,
        parameters=parameters,
        trained=parameters,
        inner=inner,
        matrices=model.layers * model.matrix_shapes,
        layers=len(model.passes),
        width=model.width,
        flops_per_step=_flops_per_step(config, flops),
    )


def _cost_of_pretrained(config: Config) -> Cost:
    network = outline(config)
    total, inner = parameter_count(network)
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)

    def flops(portion: Portion) -> float:
        length = config.corpus.block_size
        return network.training_flops(length, portion.t, **_how(config, portion))

    return _cost(
        config,
        parameters=total,
        trained=trained,
        inner=inner,
        matrices=[(p.shape[0], p.shape[1]) for p in network.matrix_parameters()],
        layers=len(network.layers),
        width=network.head.weight.shape[1],
        flops_per_step=_flops_per_step(config, flops),
    )


def _how(config: Config, portion: Portion) -> dict[str, bool]:
    return {
        "causal": portion.objective.causal,
        "asked": portion.objective.masking.refines,
        "recompute": config.train.recompute,
    }


def _cost(
    config: Config,
    *,
    parameters: int,
    trained: int,
    inner: int,
    matrices: list[tuple[int, int]],
    layers: int,
    width: int,
    flops_per_step: float,
) -> Cost:
    train = config.train
    kept_of = KEPT.get(train.optimizer, KEPT["adamw"])
    averages = 2 * trained
    for rows, columns in matrices:
        averages += kept_of(rows, columns) - KEPT["adamw"](rows, columns)
    state = parameters + trained + averages + (parameters if train.ema else 0)
    tokens = train.batch_size * config.corpus.block_size
    kept = NUMBERS_KEPT * (1 if train.recompute else layers)
    kept += layers if train.recompute else 0
    return Cost(
        parameters=parameters,
        inner=inner,
        tokens_per_step=tokens,
        tokens=tokens * train.steps,
        flops_per_step=flops_per_step,
        flops=flops_per_step * train.steps,
        state_bytes=4 * state,
        activation_bytes=4 * kept * width * (tokens // train.accumulation),
    )


def _flops_per_step(config: Config, flops: Callable[[Portion], float]) -> float:
    """On average over the run; what the samples of a portion cost is given."""
    recipe, train = parse_recipe(config.recipe), config.train
    observers = recipe.observers()
    looked_at = torch.linspace(0, train.steps - 1, min(LOOKED_AT, train.steps)).long().tolist()
    total = 0.0
    for step in looked_at:
        portions = recipe.portions(
            seed=config.seed,
            step=step,
            steps=train.steps,
            slots=torch.arange(train.batch_size),
            batch_size=train.batch_size,
            observers=observers,
        )
        total += sum(map(flops, portions))
    return total / len(looked_at)
