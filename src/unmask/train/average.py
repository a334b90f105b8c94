"""The exponential moving average of the weights: what is evaluated where a run keeps one."""

from copy import deepcopy
from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def average_of(model: M, decay: float) -> M | None:
    """A copy of the model to hold the averaged weights; None where there is no decay."""
    return deepcopy(model).requires_grad_(False) if decay else None


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Take in the weights after a step (counted from 0); those after the first are the start.

    torch's own AveragedModel keeps its count in a tensor and waits for the device to look at it.
    """
    new = 1 - decay if step else 1.0
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), new)
