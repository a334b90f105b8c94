"""What a run will cost, from its configuration alone."""

from dataclasses import dataclass

import torch

from unmask.config import Config
from unmask.model.flops import training_flops
from unmask.recipe.parse import parse_recipe
from unmask.run import predicts_before_place
from unmask.train.device import PEAKS

NUMBERS_KEPT = 21
"""Floats that a block keeps for its backward pass, for each token and unit of width: measured at
``small`` (docs/performance.md), to within a tenth."""
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
        UserError: a recipe that is not valid, or ``bell:auto``, which is none yet.
    """
    model, train, length = config.model, config.train, config.corpus.block_size
    inner = model.block_parameters + model.width
    parameters = inner + 2 * vocab_size * model.width
    matrices = model.block_parameters - model.layers * 2 * (model.width + model.head_dim)
    averages = 2 * parameters - (matrices if train.optimizer == "muon" else 0)
    state = 2 * parameters + averages + (parameters if train.ema else 0)
    tokens = train.batch_size * length
    kept = NUMBERS_KEPT * (1 if train.recompute else model.layers)
    kept += model.layers if train.recompute else 0
    flops = _flops_per_step(config, vocab_size)
    return Cost(
        parameters=parameters,
        inner=inner,
        tokens_per_step=tokens,
        tokens=tokens * train.steps,
        flops_per_step=flops,
        flops=flops * train.steps,
        state_bytes=4 * state,
        activation_bytes=4 * kept * model.width * (tokens // train.accumulation),
    )


def _flops_per_step(config: Config, vocab_size: int) -> float:
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
        for portion in portions:
            total += training_flops(
                config.model,
                vocab_size,
                config.corpus.block_size,
                portion.t,
                causal=portion.objective.causal,
                start=predicts_before_place(config),
                recompute=train.recompute,
                asked=portion.objective.masking.refines,
            )
    return total / len(looked_at)
