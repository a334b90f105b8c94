"""Optimisers and the learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the configuration's choices are the names below: help shows them without torch
    import torch
    from torch import nn
    from torch.optim import AdamW, Optimizer

    from unmask.model.network import Network
    from unmask.train.checkpoint import Sizes
    from unmask.train.config import TrainConfig


def build_optimizers(model: Network, config: TrainConfig) -> list[Optimizer]:
    """Make the optimisers that together step every parameter once."""
    return OPTIMIZERS[config.optimizer](model, config)


def adamw(model: Network, config: TrainConfig) -> list[Optimizer]:
    """AdamW for all, weight decay on matrices only."""
    return [_adamw(model.parameters(), config)]


def muon(model: Network, config: TrainConfig) -> list[Optimizer]:
    """Muon for the blocks' matrices, AdamW for the rest.

    Muon's update is scaled to AdamW's, so that one learning rate serves both.
    """
    from torch.optim import Muon  # noqa: PLC0415 - help needs the names alone

    from unmask.train.sharded import SharedMuon, is_divided  # noqa: PLC0415

    matrices = model.matrix_parameters()
    taken = {id(p) for p in matrices}
    kind = SharedMuon if is_divided(matrices) else Muon
    return [
        _adamw((p for p in model.parameters() if id(p) not in taken), config),
        kind(
            matrices,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        ),
    ]


OPTIMIZERS: dict[str, Callable[[Network, TrainConfig], list[Optimizer]]] = {
    "adamw": adamw,
    "muon": muon,
}
"""The optimisers by the name a configuration calls them: to add one, add an entry."""


def _adamw(parameters: Iterable[nn.Parameter], config: TrainConfig) -> AdamW:
    from torch.optim import AdamW  # noqa: PLC0415 - help needs the names alone

    listed = list(parameters)
    groups = [
        {"params": [p for p in listed if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in listed if p.ndim < 2], "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), fused=True)


def learning_rate(step: int, config: TrainConfig) -> float:
    """Learning rate of a step (counted from 0): linear warm-up, then the schedule."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    after = config.steps - config.warmup_steps
    if config.schedule == "cosine":
        progress = (step - config.warmup_steps) / max(after, 1)
        return config.learning_rate * (1 + math.cos(math.pi * progress)) / 2
    if config.schedule == "wsd":
        decay_steps = max(round(config.decay_fraction * config.steps), 1)
        return config.learning_rate * min(1.0, (config.steps - step) / decay_steps)
    return config.learning_rate


def set_learning_rate(optimizers: list[Optimizer], value: float) -> None:
    """Set the learning rate of every parameter group."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = value


def optimizer_tensors(optimizers: list[Optimizer], model: nn.Module) -> dict[str, torch.Tensor]:
    """The optimisers' state as ``parameter|key`` -> tensor, fit for a safetensors file."""
    names = {id(p): name for name, p in model.named_parameters()}
    return {
        f"{names[id(p)]}|{key}": value
        for optimizer in optimizers
        for p, state in optimizer.state.items()
        for key, value in state.items()
    }


def optimizer_slots(
    optimizers: list[Optimizer], model: nn.Module, sizes: Sizes
) -> dict[str, torch.Tensor]:
    """Zeros in the place of what `optimizer_tensors` gave, for this process to fill.

    Args:
        sizes: of what it gave.
    """
    import torch  # noqa: PLC0415 - help needs the names alone

    from unmask.train.sharded import SharedMuon  # noqa: PLC0415

    owner = {id(p): o for o in optimizers for group in o.param_groups for p in group["params"]}
    parameters = dict(model.named_parameters())
    slots = {}
    for name, (shape, dtype) in sizes.items():
        parameter, key = name.split("|")
        p = parameters[parameter]
        optimizer = owner[id(p)]
        if isinstance(optimizer, SharedMuon):
            if not optimizer.owns(p):
                continue
            slot = torch.zeros(shape, dtype=dtype, device=p.device)
        elif shape == p.shape:  # divided as the parameter is
            slot = torch.zeros_like(p, dtype=dtype, requires_grad=False)
        else:
            slot = torch.zeros(shape, dtype=dtype, device=p.device)
        slots[name] = slot
        optimizer.state[p][key] = slots[name]
    return slots


def restore_optimizers(
    optimizers: list[Optimizer], model: nn.Module, tensors: dict[str, torch.Tensor]
) -> None:
    """Put back what `optimizer_tensors` gave, bit for bit."""
    from unmask.train.sharded import fill  # noqa: PLC0415

    sizes = {name: (value.shape, value.dtype) for name, value in tensors.items()}
    for name, slot in optimizer_slots(optimizers, model, sizes).items():
        fill(slot, tensors[name])
