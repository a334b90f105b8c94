"""Training numbers since the last log line, kept on the device until someone looks."""

import torch
from torch import Tensor


class Recent:
    """Accumulates loss, gradient norm and mask rates without waiting for the device.

    A run resumed between two log lines averages its first line over the steps since then.
    """

    def __init__(self, device: torch.device, seconds: float) -> None:
        self._device = device
        self._seconds = seconds
        self._first_bad = torch.full((), -1, device=device)
        self._clear()

    def _clear(self) -> None:
        self._sums = torch.zeros(4, device=self._device)
        self._steps, self._tokens = 0, 0

    def add(
        self,
        step: int,
        loss: Tensor,
        norm: Tensor,
        rate: Tensor,
        rate_squared: Tensor,
        tokens: int,
    ) -> None:
        """Take the numbers of a step; of its mask rates the mean and that of their squares."""
        bad = ~(torch.isfinite(loss) & torch.isfinite(norm))
        self._first_bad = torch.where(bad & (self._first_bad < 0), step, self._first_bad)
        self._sums += torch.stack([loss, norm.detach(), rate, rate_squared])
        self._steps += 1
        self._tokens += tokens

    def first_bad(self) -> int | None:
        """The first step whose loss or gradient norm was not finite."""
        step = int(self._first_bad)
        return None if step < 0 else step

    def summary(self, seconds: float) -> dict[str, float]:
        """Means over the steps since the last call; ``seconds`` is the run's training time."""
        loss, norm, mean, square = (x / self._steps for x in self._sums.tolist())
        elapsed = seconds - self._seconds
        values = {
            "loss": loss,
            "grad_norm": norm,
            "rate_mean": mean,
            "rate_std": max(square - mean**2, 0.0) ** 0.5,
            "tokens_per_second": self._tokens / elapsed if elapsed > 0 else 0.0,
        }
        self._seconds = seconds
        self._clear()
        return values
