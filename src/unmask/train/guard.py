"""Steps that are left out because their gradient cannot be trusted: not finite, or a spike.

A step that is left out has a gradient of zero: what the optimiser's averages hold still moves the
weights. All is decided on the device, and nothing waits for it.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from unmask.train.sharded import local

WINDOW = 100
"""Steps that the running average of the norm looks back on, and that no spike is told before."""


class Guard:
    """Judges the gradient of each step.

    Args:
        spike: how many times its running average makes a norm a spike; 0: nothing is one.
        device: where the norms are.
    """

    def __init__(self, spike: float, device: torch.device) -> None:
        self._spike = spike
        self._average = torch.zeros((), device=device)
        self._seen = torch.zeros((), device=device)

    def judge(self, norm: Tensor) -> Tensor:
        """Whether a step may be taken, a bool scalar.

        Args:
            norm: of its gradient, a scalar, the same in all processes.
        """
        good = torch.isfinite(norm)
        if self._spike:
            good = good & ((norm <= self._spike * self._average) | (self._seen < WINDOW))
            self._seen += good
            weight = good / self._seen.clamp(1, WINDOW)
            self._average += weight * (norm.nan_to_num() - self._average)
        return good

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds of it; nothing where nothing is a spike."""
        return {"average": self._average, "seen": self._seen} if self._spike else {}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `tensors` gave."""
        self._average.copy_(tensors["average"])
        self._seen.copy_(tensors["seen"])


def leave_out(parameters: Iterable[nn.Parameter], good: Tensor) -> None:
    """Set the gradients to zero unless they are good, a bool scalar."""
    for p in parameters:
        if p.grad is not None:
            local(p.grad).masked_fill_(~good, 0)
