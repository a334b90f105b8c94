"""The global batch of a step, a function of (config, seed, step), a micro-batch at a time."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unmask.data.blocks import Drawn, TrainingText
from unmask.diffusion.noise import Stream, uniform
from unmask.model.late import Bounds
from unmask.recipe.objective import Objective, Observers
from unmask.recipe.recipe import Portion, Recipe
from unmask.train.config import TrainConfig
from unmask.train.device import send

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Batch:
    """Samples of a micro-batch that are trained on one objective, with all their randomness.

    Attributes:
        objective: what they are trained on.
        x: (b, L) int64 clean tokens.
        valid: (b, L) bool, False at padding; None where there is none.
        t: (b,) mask rates.
        mask: (b, L) bool, the predicted positions.
        reveal: (b, L + 1) uniform noise for a masking that refines the mask; None for others.
        weights: (b,) weight of each sample's summed cross-entropy, in nats per token of the
            *global* batch.
        bounds: of the predicted positions and the visible ones; None where predicted ones have
            none but the length, or where counting costs nothing.
        n_tokens: tokens (without padding) in the global batch.
        phase: ``causal``, ``masked`` or ``mixed``: how the samples of the global batch are trained.
        last: whether no other micro-batch of the step comes after it.
    """

    objective: Objective
    x: Tensor
    valid: Tensor | None
    t: Tensor
    mask: Tensor
    reveal: Tensor | None
    weights: Tensor
    bounds: Bounds | None
    n_tokens: int
    phase: str
    last: bool


def draw_batches(
    recipe: Recipe,
    text: TrainingText,
    config: TrainConfig,
    *,
    seed: int,
    step: int,
    device: torch.device,
    observers: Observers | None = None,
    mine: Tensor | None = None,
) -> Iterator[Batch]:
    """Draw the blocks, mask rates and masks of a step, for one micro-batch after the other.

    Rates are stratified over the global batch; noise belongs to a sample's place in it, so that
    splitting the batch changes nothing. The samples of a micro-batch come apart by objective.

    Args:
        mine: (b,) int64, the places in the global batch that are asked for; None: all.
    """
    slots = torch.arange(config.batch_size)
    portions = recipe.portions(
        seed=seed,
        step=step,
        steps=config.steps,
        slots=slots,
        batch_size=config.batch_size,
        observers=observers,
    )
    mine = slots if mine is None else mine
    asked = torch.cat([portion.among(mine).sequences for portion in portions])
    drawn = text.step(seed, step, portions[0].n_sequences, asked)
    n_tokens = sum(int(drawn.lengths_of(portion.sequences).sum()) for portion in portions)
    phases = {"causal" if p.objective.causal else "masked" for p in portions if len(p.slots)}
    phase = phases.pop() if len(phases) == 1 else "mixed"
    micro_batches = [
        among
        for part in mine.tensor_split(config.accumulation)
        for among in (portion.among(part) for portion in portions)
        if len(among.slots)
    ]
    for number, portion in enumerate(micro_batches, 1):
        batch = _draw(portion, drawn, seed, step, device, n_tokens)
        yield replace(batch, phase=phase, last=number == len(micro_batches))


def _draw(
    portion: Portion, drawn: Drawn, seed: int, step: int, device: torch.device, n_tokens: int
) -> Batch:
    objective, masking = portion.objective, portion.objective.masking
    x, valid = drawn.batch(portion.sequences)
    length = x.shape[1]
    place = CPU if masking.float64 else device  # where masks are computed
    mask = masking.mask(
        send(portion.rates, place),
        uniform(seed, Stream.MASK, step, send(portion.sequences, place), length),
        None if valid is None else send(valid, place),
    )
    mask = send(mask, device)
    valid = None if valid is None else send(valid, device)
    if objective.paired:
        mask = mask ^ send(portion.second, device)[:, None]
        mask = mask if valid is None else mask & valid
    t, reveal = portion.t, None
    if masking.refines:
        sequences = send(portion.sequences, device)
        reveal = uniform(seed, Stream.REVEAL, step, sequences, length + 1)
    bounds = None
    # An accelerator would have to be waited for to count the masked positions; MPS is waited for
    # all the same, for it cannot be asked to check the bound later.
    if device.type not in ("cpu", "mps"):
        most = objective.most_predicted(portion.u_at_most, length)
        visible = objective.most_visible(portion.u_at_least, length)
        if most is not None:
            visible = torch.full_like(most, length) if visible is None else visible
            bounds = Bounds(int(most.sum()), int(visible.sum()), int(visible.max()))
    return Batch(
        objective,
        send(x, device),
        valid,
        send(t, device),
        mask,
        reveal,
        send(objective.weights(t) / n_tokens, device),
        bounds,
        n_tokens,
        phase="",
        last=False,
    )
