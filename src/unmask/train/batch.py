"""The global batch of a step, a function of (seed, step), and its loss."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import NamedTuple

import torch
from torch import Tensor

from unmask.data import Blocks, sample_blocks
from unmask.diffusion.linear_cross_entropy import Projection
from unmask.diffusion.masking import Corrupted
from unmask.diffusion.noise import Stream, uniform
from unmask.diffusion.objective import loss_and_rows, predicted_confidence
from unmask.recipe import Recipe
from unmask.train.device import send


class Met(NamedTuple):
    """What a step met in each of its samples, (b,) each.

    Attributes:
        t: mask rates.
        nats: summed cross-entropies.
        predicted: how many tokens were predicted.
        tokens: how many there are, without padding.
    """

    t: Tensor
    nats: Tensor
    predicted: Tensor
    tokens: Tensor


@dataclass(frozen=True)
class Batch:
    """Some samples of a step with all the randomness they need.

    Attributes:
        x: (b, L) int64 clean tokens.
        valid: (b, L) bool, False at padding; None where there is none.
        t: (b,) mask rates.
        weights: (b,) weight of each sample's summed cross-entropy.
        u: (b, L) uniform noise for the masks.
        most: (b,) int64 on the CPU, the most positions predicted in each sample; None where that
            is not bounded, or where counting them costs nothing.
        n_tokens: tokens (without padding) in the *global* batch: what the loss is divided by.
    """

    x: Tensor
    valid: Tensor | None
    t: Tensor
    weights: Tensor
    u: Tensor
    most: Tensor | None
    n_tokens: int

    def split(self, parts: int) -> Iterator["Batch"]:
        """The batch in micro-batches of (nearly) equal size."""
        fields = (self.x, self.valid, self.t, self.weights, self.u, self.most)
        pieces = (repeat(None) if x is None else x.tensor_split(parts) for x in fields)
        for x, valid, t, weights, u, most in zip(*pieces, strict=False):
            yield Batch(x, valid, t, weights, u, most, self.n_tokens)


def draw_batch(
    recipe: Recipe, blocks: Blocks, seed: int, step: int, batch_size: int, device: torch.device
) -> Batch:
    """Draw the blocks, mask rates and mask noise of a step.

    Rates are stratified over the whole batch; noise belongs to a sample's place in it, so that
    splitting the batch changes nothing.
    """
    slots = torch.arange(batch_size)
    places, n = recipe.places(slots, batch_size)
    x, valid = blocks.batch(sample_blocks(seed, step, places, n, blocks.parts))
    u = uniform(seed, Stream.MASK, step, send(places, device), x.shape[1])
    t = recipe.times(seed=seed, step=step, slots=slots, batch_size=batch_size)
    n_tokens = x.numel() if valid is None else int(valid.sum())
    most = None
    if device.type != "cpu":  # which would have to be waited for to count the masked positions
        most = recipe.most_predicted(slots=slots, batch_size=batch_size, length=x.shape[1])
    return Batch(
        x=send(x, device),
        valid=None if valid is None else send(valid, device),
        t=send(t, device),
        weights=send(recipe.weights(t) / n_tokens, device),
        u=recipe.noise(u, send(slots, device)),
        most=most,
        n_tokens=n_tokens,
    )


def batch_loss(
    network: Callable[[Tensor, Tensor | None, bool], Tensor],
    head: Projection,
    recipe: Recipe,
    batch: Batch,
    mask_id: int,
) -> tuple[Tensor, Met]:
    """Training loss of a (micro-)batch: its share of the global batch's, in nats per token.

    Args:
        network: tokens (b, L), valid (b, L) or None, causal or not -> hidden states (b, L, D).
        head: the vocabulary projection.

    Returns:
        The loss, and what it was made of.
    """

    def confidence(corrupted: Corrupted) -> Tensor:
        with torch.no_grad():
            hidden = network(corrupted.inputs, batch.valid, recipe.causal)
        return predicted_confidence(hidden, corrupted.predicted, head)

    x, t, u, valid = batch.x, batch.t, batch.u, batch.valid
    corrupted = recipe.corrupt(x, t, u, valid=valid, mask_id=mask_id)
    corrupted = recipe.refine(corrupted, x, t, u, confidence=confidence, mask_id=mask_id)
    hidden = network(corrupted.inputs, valid, recipe.causal)
    budget = None if batch.most is None else sum(batch.most.tolist())
    loss, nats = loss_and_rows(hidden, x, corrupted.predicted, batch.weights, head, budget)
    tokens = torch.full_like(t, x.shape[1]) if valid is None else valid.sum(dim=1)
    return loss, Met(t, nats, corrupted.predicted.sum(dim=1), tokens)
