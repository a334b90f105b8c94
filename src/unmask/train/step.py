"""One optimiser step: the loop, the analyses and the benchmarks take theirs here."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from unmask.diffusion.adaptive import Seen
from unmask.diffusion.objective import loss_and_rows, predicted_confidence
from unmask.model.late import Bounds
from unmask.model.network import Network
from unmask.train.batch import Batch, Work
from unmask.train.config import TrainConfig
from unmask.train.device import autocast, products_of_optimizers
from unmask.train.guard import leave_out
from unmask.train.optim import set_learning_rate
from unmask.train.processes import ALONE, Processes, gradient_sync
from unmask.train.sharded import whole
from unmask.train.state import TrainingState


class Loss(NamedTuple):
    """Of a micro-batch.

    Attributes:
        value: its share of the global batch's loss, in nats per token, a scalar.
        nats: (b,) summed cross-entropy of each sample, without gradient.
        predicted: (b, L) bool, the predicted positions.
    """

    value: Tensor
    nats: Tensor
    predicted: Tensor


BatchLoss = Callable[[Batch], Loss]


class TrainingLoss(nn.Module):
    """A network, its head and the cross-entropy of what it predicts, as one module.

    Its forward is the training loss: full (B, L, V) logits never exist.

    Args:
        model: the network.
        compiled: whether the module is to be compiled. The loss then is left as it is: the number
            of predicted positions, which its loops depend on, would ask for a graph each time.
    """

    def __init__(self, model: Network, *, compiled: bool = False) -> None:
        super().__init__()
        self.model = model
        self._loss = torch.compiler.disable(loss_and_rows) if compiled else loss_and_rows

    def forward(
        self,
        inputs: Tensor,
        targets: Tensor,
        predicted: Tensor,
        weights: Tensor,
        valid: Tensor | None,
        causal: bool,
        bounds: Bounds | None,
        conditioned: bool,
        reach: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Weighted sum of the cross-entropies of the predicted positions, and each row's sum.

        Args:
            inputs, targets: (b, L) int64 tokens, what the network reads and what stands there.
            predicted: (b, L) bool.
            weights: (b,) of each row.
            valid: (b, L) bool, False at padding; None where there is none.
            causal: whether the network must not look ahead.
            bounds: of a batch, with which no shape depends on its masks; None: counted.
            conditioned: whether a network with self-conditioning makes its first pass.
            reach: how far each token sees to its right while attention still opens; None: as far as
                there is anything.
        """
        hidden = self.model(
            inputs,
            valid,
            causal,
            predicted=predicted,
            bounds=bounds,
            conditioned=conditioned,
            reach=reach,
        )
        budget = None if bounds is None else bounds.predicted
        result: tuple[Tensor, Tensor] = self._loss(
            hidden, targets, predicted, weights, self.model.head, budget
        )
        return result

    @torch.no_grad()
    def confidence(self, inputs: Tensor, predicted: Tensor, valid: Tensor | None) -> Tensor:
        """As `predicted_confidence`: how sure the network is of its best guesses."""
        return predicted_confidence(self.model(inputs, valid, False), predicted, self.model.head)


def batch_loss(
    model: Network,
    mask_id: int,
    *,
    compiled: bool = False,
    processes: Processes = ALONE,
) -> BatchLoss:
    """The training loss of a network, as a function of a (micro-)batch.

    Args:
        compiled: whether the module is compiled.
        processes: those that the gradients of a step are shared with, at its last micro-batch.
    """
    module = TrainingLoss(model, compiled=compiled)
    if compiled:
        module.compile()
    forward = processes.wrap(module)

    def loss(batch: Batch) -> Loss:
        objective, mask = batch.objective, batch.mask
        if batch.reveal is not None:
            hidden = objective.hide(batch.x, mask, mask_id)
            confidence = module.confidence(hidden, mask, batch.valid)
            mask = objective.masking.refine(mask, batch.t, batch.reveal, confidence)
        inputs = objective.hide(batch.x, mask, mask_id)
        with gradient_sync(forward, model, batch.last):
            value, nats = forward(
                inputs,
                batch.x,
                mask,
                batch.weights,
                batch.valid,
                objective.causal,
                batch.bounds,
                batch.conditioned,
                batch.reach,
            )
        return Loss(value, nats, mask)

    return loss


@dataclass(frozen=True)
class Taken:
    """A step that was taken; the numbers are still on the device.

    Attributes:
        loss: in nats per token, a scalar.
        norm: of the gradient before it was clipped, a scalar.
        good: whether it was not left out, a bool scalar.
        rate, rate_squared: means over the mask rates of the global batch, scalars.
        n_tokens: tokens in the global batch, without padding and prompts.
        phase: ``causal``, ``masked`` or ``mixed``: how its samples were trained.
        work: what its cost is computed from.
    """

    loss: Tensor
    norm: Tensor
    good: Tensor
    rate: Tensor
    rate_squared: Tensor
    n_tokens: int
    phase: str
    work: Sequence[Work]


def take_step(
    state: TrainingState[Any],
    loss: BatchLoss,
    batches: Iterable[Batch],
    config: TrainConfig,
    *,
    step: int,
    learning_rate: float,
    processes: Processes = ALONE,
) -> Taken:
    """Take an optimiser step on the (micro-)batches of a global batch.

    Args:
        state: what the step changes.
        loss: of the state's model.
        batches: this process's.
        config: clipping, precision and the average's decay.
        step: optimiser steps before it.
        processes: those that have the other micro-batches, and take the same step.
    """
    device = next(state.model.parameters()).device
    # 1. The gradient; the loss is per token of the global batch.
    total = torch.zeros((), device=device)
    rates, seen = [], []
    for batch in batches:
        with autocast(device, config.precision):
            found = loss(batch)
        # Its gradients add up over processes, of which the mean is taken.
        (found.value * processes.size).backward()
        if not batch.counted:
            continue
        total += found.value.detach()
        rates.append(batch.t)
        if state.observers and not batch.objective.causal:
            full = torch.full_like(batch.t, batch.x.shape[1])
            tokens = full if batch.maskable is None else batch.maskable.sum(dim=1)
            seen.append(Seen(batch.t, found.nats, found.predicted.sum(dim=1), tokens))

    # 2. Clip, judge, step, average.
    limit = config.grad_clip or float("inf")
    norm = whole(nn.utils.clip_grad_norm_(state.model.parameters(), limit))
    good = torch.ones_like(norm, dtype=torch.bool)
    if state.guard is not None:
        good = state.guard.judge(norm)
        leave_out(state.model.parameters(), good)
    set_learning_rate(state.optimizers, learning_rate)
    with products_of_optimizers(device):
        for optimizer in state.optimizers:
            optimizer.step()
    for optimizer in state.optimizers:
        optimizer.zero_grad()
    state.update_average(config.ema, step)

    # 3. Let those see it who fit something to it, and say what the whole batch was like.
    if state.observers and batch.phase != "causal":
        none = [total.new_zeros(0)] * len(Seen._fields)
        mine = map(torch.cat, zip(none, *seen, strict=True))
        everything = Seen(*map(processes.gather, mine))
        for observer in state.observers.values():
            observer.add(everything)
    t = torch.cat(rates) if rates else torch.zeros(0, device=device)
    numbers = torch.stack(
        [total, t.sum() / config.batch_size, t.square().sum() / config.batch_size]
    )
    processes.sum(numbers)
    return Taken(
        numbers[0], norm, good, numbers[1], numbers[2], batch.n_tokens, batch.phase, batch.work
    )


def flops_of(model: Network, work: Iterable[Work], length: int) -> float:
    """The floating-point operations of training on some samples: the model's, each counted once.

    Args:
        length: of the padded sequences, tokens.
    """
    rates: dict[tuple[bool, bool, bool], list[Tensor]] = {}
    for part in work:
        kind = part.causal, part.asked, part.conditioned
        rates.setdefault(kind, []).append(part.rates)
    return sum(
        model.training_flops(
            length, torch.cat(parts), causal=causal, asked=asked, conditioned=conditioned
        )
        for (causal, asked, conditioned), parts in rates.items()
    )
