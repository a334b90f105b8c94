"""The global batch of a step, a function of (config, seed, step), a micro-batch at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from unmask.data.blocks import Drawn, TrainingText
from unmask.diffusion.noise import Stream, uniform, uniform_double
from unmask.diffusion.transfer import send
from unmask.model.late import Bounds
from unmask.recipe.draw import draw_mask
from unmask.recipe.objective import Objective, Observers
from unmask.recipe.recipe import Portion, Recipe
from unmask.train.config import TrainConfig

CONDITIONED = 0.5
"""Share of the steps in which a network with self-conditioning makes its first pass."""


class Work(NamedTuple):
    """What some samples cost depends on.

    Attributes:
        causal: whether they are trained causal.
        asked: whether the network is asked for its confidences before.
        rates: (n,) their mask rates.
        conditioned: whether the network makes a first pass, for the states of the second.
    """

    causal: bool
    asked: bool
    rates: Tensor
    conditioned: bool = False
    reach: Tensor | None = None


@dataclass(frozen=True)
class Batch:
    """Samples of a micro-batch that are trained on one objective, with all their randomness.

    Attributes:
        objective: what they are trained on.
        x: (b, L) int64 clean tokens.
        valid: (b, L) bool, False at padding; None where there is none.
        maskable: (b, L) bool, the positions that may be predicted and count: neither padding nor
            prompts; None: all.
        t: (b,) mask rates.
        mask: (b, L) bool, the predicted positions.
        reveal: (b, L + 1) uniform noise for a masking that refines the mask; None for others.
        weights: (b,) weight of each sample's summed cross-entropy, in nats per token of the
            *global* batch.
        bounds: of the predicted positions and the visible ones; None where predicted ones have
            none but the length, or where counting costs nothing.
        n_tokens: tokens in the global batch, without padding and prompts.
        phase: ``causal``, ``masked`` or ``mixed``: how the samples of the global batch are trained.
        work: of each portion of the global batch, how it is trained (causal or not, whether the
            network is asked for its confidences first) and the mask rates of its samples, on the
            CPU: what the cost of the step is computed from.
        last: whether no other micro-batch of the step comes after it.
        counted: False of a sample that is another process's and weighs nothing here: it stands in
            for a pass that all processes have to make together.
        conditioned: whether a network with self-conditioning makes its first pass.
        reach: () int64, how far each token sees to its right where it is not causal; None: as far
            as there is anything.
    """

    objective: Objective
    x: Tensor
    valid: Tensor | None
    maskable: Tensor | None
    t: Tensor
    mask: Tensor
    reveal: Tensor | None
    weights: Tensor
    bounds: Bounds | None
    n_tokens: int
    phase: str
    work: Sequence[Work]
    last: bool
    counted: bool = True
    conditioned: bool = False
    reach: Tensor | None = None


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
    together: Sequence[Tensor] = (),
    self_conditioning: bool = False,
    opening: float = 0.0,
) -> Iterator[Batch]:
    """Draw the blocks, mask rates and masks of a step, for one micro-batch after the other.

    Rates are stratified over the global batch; noise belongs to a sample's place in it, so that
    splitting the batch changes nothing. The samples of a micro-batch come apart by objective.

    Args:
        mine: (b,) int64, the places in the global batch that are asked for; None: all.
        together: the places that each process asks for, if all of them are to have micro-batches of
            the same number and kinds.
        self_conditioning: whether the network is one that makes a first pass in some steps.
        opening: the part of the steps over which attention opens to both sides.
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
    if config.shorter:
        drawn = replace(drawn, ends=_ends(drawn, config.shorter, seed, step))
    n_tokens = sum(int(drawn.n_maskable(portion.sequences).sum()) for portion in portions)
    phases = {"causal" if p.objective.causal else "masked" for p in portions if len(p.slots)}
    phase = phases.pop() if len(phases) == 1 else "mixed"
    # By whole steps: no process and no micro-batch has to wait for a pass that it does not make.
    conditioned = self_conditioning and makes_first_pass(seed, step)
    work = [
        Work(p.objective.causal, p.objective.masking.refines, p.t, conditioned) for p in portions
    ]
    parts = mine.tensor_split(config.accumulation)
    others = [share.tensor_split(config.accumulation) for share in together]
    micro_batches = []
    for number, part in enumerate(parts):
        for portion in portions:
            among = portion.among(part)
            if len(among.slots):
                micro_batches.append((among, True))
            elif any(len(portion.among(other[number]).slots) for other in others):
                idle = portion.among(portion.slots[:1])  # on a text that this process has
                micro_batches.append((idle._replace(sequences=asked[:1]), False))
    for number, (portion, counted) in enumerate(micro_batches, 1):
        batch = _draw(portion, drawn, seed, step, device, n_tokens)
        if not counted:
            batch = replace(batch, weights=torch.zeros_like(batch.weights), counted=False)
        last = number == len(micro_batches)
        batch = replace(batch, phase=phase, work=work, last=last, conditioned=conditioned)
        yield replace(batch, reach=_reach(opening * config.steps, step, batch.x))


def _reach(steps: float, step: int, x: Tensor) -> Tensor | None:
    """How far tokens x (b, L) see to their right, in steps over which that grows to everything."""
    if step >= steps:
        return None
    return send(torch.tensor(int(x.shape[1] * step / steps)), x.device)


def makes_first_pass(seed: int, step: int) -> bool:
    """Whether a step is one of the share `CONDITIONED`, each by a chance of its own."""
    return bool(uniform_double(seed, Stream.STATES, step, torch.zeros(1).long(), 1) < CONDITIONED)


def _ends(drawn: Drawn, share: float, seed: int, step: int) -> Tensor:
    """Where each sequence of a step ends: a share of them at a random place, the others nowhere.

    Returns:
        (n,) int64 in 1..L, uniform where a sequence is cut.
    """
    n, length = len(drawn.indices), drawn.blocks.block_size
    u = uniform_double(seed, Stream.LENGTH, step, torch.arange(n), 2)
    places = (u[:, 1] * length).long().clamp(max=length - 1) + 1
    return torch.where(u[:, 0] < share, places, length)


def _draw(
    portion: Portion, drawn: Drawn, seed: int, step: int, device: torch.device, n_tokens: int
) -> Batch:
    objective = portion.objective
    x, valid = drawn.batch(portion.sequences)
    maskable = drawn.maskable(portion.sequences)
    length = x.shape[1]
    mask = draw_mask(portion, seed=seed, step=step, length=length, maskable=maskable, device=device)
    valid = None if valid is None else send(valid, device)
    maskable = None if maskable is None else send(maskable, device)
    t, reveal = portion.t, None
    if objective.masking.refines:
        sequences = send(portion.sequences, device)
        reveal = uniform(seed, Stream.REVEAL, step, sequences, length + 1)
    bounds = None
    # An accelerator would have to be waited for to count the masked positions; MPS is waited for
    # all the same, for it cannot be asked to check the bound later.
    if device.type not in ("cpu", "mps"):
        most = objective.most_predicted(portion.u_at_most, length)
        visible = None
        if drawn.blocks.all_maskable:  # the others are visible whatever the rate
            visible = objective.most_visible(portion.u_at_least, length)
        if most is not None:
            visible = torch.full_like(most, length) if visible is None else visible
            bounds = Bounds(int(most.sum()), int(visible.sum()), int(visible.max()))
    return Batch(
        objective,
        send(x, device),
        valid,
        maskable,
        send(t, device),
        mask,
        reveal,
        send(objective.weights(t) / n_tokens, device),
        bounds,
        n_tokens,
        phase="",
        work=(),
        last=False,
    )
