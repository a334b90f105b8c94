"""What a training step changes, and how a checkpoint holds it."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unmask.base.errors import UserError
from unmask.recipe.objective import Observers
from unmask.train.checkpoint import Checkpoint
from unmask.train.guard import Guard
from unmask.train.optim import optimizer_slots, optimizer_tensors

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class TrainingState(Generic[M]):
    """A network in training.

    Attributes:
        model: the network.
        optimizers: together they step every parameter once.
        average: the network with averaged weights, if they are kept.
        observers: what watches the steps, by the name of its checkpoint file.
        guard: judges their gradients; None: every step is taken.
    """

    model: M
    optimizers: list[Optimizer]
    average: M | None = None
    observers: Observers = field(default_factory=dict)
    guard: Guard | None = None

    @property
    def evaluated(self) -> M:
        """The network that is evaluated: the averaged one where there is one."""
        return self.model if self.average is None else self.average

    @torch.no_grad()
    def update_average(self, decay: float, step: int) -> None:
        """Take the weights after a step (counted from 0) into the average, if there is one.

        Those after the first step are its start. torch's own AveragedModel keeps its count in a
        tensor and waits for the device to look at it.
        """
        if self.average is not None:
            averages: list[Tensor] = list(self.average.parameters())
            weights: list[Tensor] = list(self.model.parameters())
            torch._foreach_lerp_(averages, weights, 1 - decay if step else 1.0)

    def files(self) -> dict[str, dict[str, Tensor]]:
        """What a checkpoint holds: file name -> tensors."""
        files = {
            "model": self.model.state_dict(),
            "optimizer": optimizer_tensors(self.optimizers, self.model),
        }
        if self.average is not None:
            files["ema"] = self.average.state_dict()
        if self.guard is not None and (judged := self.guard.tensors()):
            files["guard"] = judged
        return files | {name: observer.tensors() for name, observer in self.observers.items()}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take everything from a checkpoint."""
        checkpoint.load_into(self.model, "model")
        with restoring(checkpoint, "optimizer"):
            sizes = checkpoint.sizes("optimizer")
            checkpoint.fill("optimizer", optimizer_slots(self.optimizers, self.model, sizes))
        if self.average is not None:
            checkpoint.load_into(self.average, "ema")
        if self.guard is not None and self.guard.tensors():
            with restoring(checkpoint, "guard"):
                self.guard.restore(checkpoint.tensors("guard"))
        for name, observer in self.observers.items():
            if checkpoint.has(name):  # the first checkpoints of all held none
                with restoring(checkpoint, name):
                    observer.restore(checkpoint.tensors(name))


@contextmanager
def restoring(checkpoint: Checkpoint, name: str) -> Iterator[None]:
    """The block takes something from a file of a checkpoint that must be as it was saved.

    Raises:
        UserError: it is not.
    """
    try:
        yield
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise UserError(
            f"the checkpoint {checkpoint.folder} holds another {name} than this run's: it was "
            "altered"
        ) from error


def average_of(model: M, decay: float) -> M | None:
    """A copy of the model to hold the averaged weights; None where there is no decay."""
    return deepcopy(model).requires_grad_(False) if decay else None
