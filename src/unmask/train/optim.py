"""Optimisers and the learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from unmask.base.errors import UserError

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
    return [_adamw(model, (), config)]


def muon(model: Network, config: TrainConfig) -> list[Optimizer]:
    """Muon for the blocks' matrices, AdamW for the rest.

    Muon's update is scaled to AdamW's, so that one learning rate serves both.
    """
    from torch.optim import Muon  # noqa: PLC0415 - help needs the names alone

    from unmask.train.sharded import SharedMuon, is_divided  # noqa: PLC0415

    matrices = model.matrix_parameters()
    kind = SharedMuon if is_divided(matrices) else Muon
    return [
        _adamw(model, matrices, config),
        kind(
            matrices,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        ),
    ]


def normuon(model: Network, config: TrainConfig) -> list[Optimizer]:
    """NorMuon (arXiv 2510.05491) for the blocks' matrices, AdamW for the rest.

    Muon's update with each row brought to its usual size, and scaled to AdamW's as `muon`'s is.
    """
    matrices = _whole_matrices(model, "normuon")
    with _extra("normuon"):
        from pytorch_optimizer import NorMuon  # noqa: PLC0415
    group = {"params": matrices, "use_muon": True, "lr": config.learning_rate}
    made = NorMuon([group], weight_decay=config.weight_decay, update_scale="match_rms")
    return [_adamw(model, matrices, config), made]


def soap(model: Network, config: TrainConfig) -> list[Optimizer]:
    """SOAP (arXiv 2409.11321) for the blocks' matrices, AdamW for the rest.

    Adam in the eigenbases of Shampoo's preconditioners, which are renewed every 10 steps. Its first
    step only measures.
    """
    matrices = _whole_matrices(model, "soap")
    with _extra("soap"):
        from unmask.train.soap import Soap  # noqa: PLC0415
    made = Soap(
        matrices,
        lr=config.learning_rate,
        betas=(0.95, 0.95),
        weight_decay=config.weight_decay,
        precondition_frequency=10,
    )
    return [_adamw(model, matrices, config), made]


def _whole_matrices(model: Network, name: str) -> list[nn.Parameter]:
    """The blocks' matrices, for an optimiser that knows no divided ones.

    Raises:
        UserError: they are divided between processes.
    """
    from unmask.train.sharded import is_divided  # noqa: PLC0415

    matrices = model.matrix_parameters()
    if is_divided(matrices):
        raise UserError(
            f"train.optimizer {name} does not work on divided matrices: choose train.parallel ddp, "
            "or train.optimizer muon or adamw"
        )
    return matrices


@contextmanager
def _extra(name: str) -> Iterator[None]:
    """An import of what is not everybody's.

    Raises:
        UserError: it is not installed.
    """
    try:
        yield
    except ImportError:
        raise UserError(
            f"train.optimizer {name} needs the extra optimizers: pip install 'unmask[optimizers]'"
        ) from None


OPTIMIZERS: dict[str, Callable[[Network, TrainConfig], list[Optimizer]]] = {
    "adamw": adamw,
    "muon": muon,
    "normuon": normuon,
    "soap": soap,
}
"""The optimisers by the name a configuration calls them: to add one, add an entry."""
KEPT: dict[str, Callable[[int, int], int]] = {
    "adamw": lambda rows, columns: 2 * rows * columns,
    "muon": lambda rows, columns: rows * columns,
    "normuon": lambda rows, columns: rows * columns + rows,
    "soap": lambda rows, columns: 2 * (rows * columns + rows**2 + columns**2),
}
"""Numbers that each keeps of a matrix, to estimate memory; as AdamW where it is not here."""


def _adamw(model: Network, others: Sequence[nn.Parameter], config: TrainConfig) -> AdamW:
    """AdamW for all parameters but some others."""
    from torch.optim import AdamW  # noqa: PLC0415 - help needs the names alone

    taken = {id(p) for p in others}
    rates = {id(p): config.embedding_rate for p in model.embeddings()}
    if id(model.head.weight) in rates and config.head_rate != config.embedding_rate:
        raise UserError(
            "the model's head is its embedding: train.head_rate and train.embedding_rate must be "
            "the same"
        )
    rates[id(model.head.weight)] = config.head_rate
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for p in model.parameters():
        if id(p) not in taken:
            decay = config.weight_decay if p.ndim >= 2 else 0.0
            groups.setdefault((rates.get(id(p), 1.0), decay), []).append(p)
    return AdamW(
        [
            {"params": listed, "weight_decay": decay, "rate": rate}
            for (rate, decay), listed in groups.items()
        ],
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        fused=True,
    )


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
    """Set the learning rate of every parameter group, which may have a multiple of it."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = value * group.get("rate", 1.0)


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
