"""The global batch of a step, a function of (seed, step), and its loss."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.data import Blocks, sample_blocks
from unmask.diffusion.linear_cross_entropy import Projection
from unmask.diffusion.noise import Stream, uniform
from unmask.diffusion.objective import predicted_loss
from unmask.recipe import Recipe


@dataclass(frozen=True)
class Batch:
    """Some samples of a step with all the randomness they need.

    Attributes:
        x: (b, L) int64 clean tokens.
        valid: (b, L) bool, False at padding; None where there is none.
        t: (b,) mask rates.
        u: (b, L) uniform noise for the masks.
        n_tokens: tokens (without padding) in the *global* batch: what the loss is divided by.
    """

    x: Tensor
    valid: Tensor | None
    t: Tensor
    u: Tensor
    n_tokens: int

    def split(self, parts: int) -> Iterator["Batch"]:
        """The batch in micro-batches of (nearly) equal size."""
        for rows in torch.arange(len(self.x), device=self.x.device).tensor_split(parts):
            valid = None if self.valid is None else self.valid[rows]
            yield Batch(self.x[rows], valid, self.t[rows], self.u[rows], self.n_tokens)


def draw_batch(
    recipe: Recipe, blocks: Blocks, seed: int, step: int, batch_size: int, device: torch.device
) -> Batch:
    """Draw the blocks, mask rates and mask noise of a step.

    Rates are stratified over the whole batch; noise belongs to a sample's place in it, so that
    splitting the batch changes nothing.
    """
    slots = torch.arange(batch_size)
    places, n = recipe.places(slots, batch_size)
    x, valid = blocks.batch(sample_blocks(seed, step, places, n, len(blocks)))
    u = uniform(seed, Stream.MASK, step, places.to(device), x.shape[1])
    t = recipe.times(seed=seed, step=step, slots=slots, batch_size=batch_size)
    return Batch(
        x=x.to(device, non_blocking=True),
        valid=None if valid is None else valid.to(device, non_blocking=True),
        t=t.to(device, non_blocking=True),
        u=recipe.noise(u, slots.to(device)),
        n_tokens=x.numel() if valid is None else int(valid.sum()),
    )


def batch_loss(
    network: Callable[[Tensor, Tensor | None, bool], Tensor],
    head: Projection,
    recipe: Recipe,
    batch: Batch,
    mask_id: int,
) -> Tensor:
    """Training loss of a (micro-)batch: its share of the global batch's, in nats per token.

    Args:
        network: tokens (b, L), valid (b, L) or None, causal or not -> hidden states (b, L, D).
        head: the vocabulary projection.
    """
    corrupted = recipe.corrupt(batch.x, batch.t, batch.u, valid=batch.valid, mask_id=mask_id)
    hidden = network(corrupted.inputs, batch.valid, recipe.causal)
    weights = recipe.weights(batch.t) / batch.n_tokens
    return predicted_loss(hidden, batch.x, corrupted.predicted, weights, head)
