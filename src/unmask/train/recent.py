"""Training numbers since the last log line, kept on the device until someone looks."""

import torch

from unmask.model.transformer import Transformer
from unmask.train.batch import Work
from unmask.train.step import Taken, flops_of


class Recent:
    """Accumulates loss, gradient norm and mask rates without waiting for the device.

    A run resumed between two log lines averages its first line over the steps since then.

    Args:
        seconds: the run's training time so far.
        peak: FLOPs a second of all devices together; None where that is not known.
    """

    def __init__(self, device: torch.device, seconds: float, peak: float | None = None) -> None:
        self._device = device
        self._peak = peak
        self._work: list[Work] = []
        self._seconds = seconds
        self._first_bad = torch.full((), -1, device=device)
        self._clear()

    def _clear(self) -> None:
        self._sums = torch.zeros(4, device=self._device)
        self._steps, self._tokens, self._flops = 0, 0, 0.0

    def add(
        self,
        step: int,
        taken: Taken,
    ) -> None:
        """Take the numbers of a step."""
        loss, norm = taken.loss, taken.norm
        bad = ~(torch.isfinite(loss) & torch.isfinite(norm))
        self._first_bad = torch.where(bad & (self._first_bad < 0), step, self._first_bad)
        self._sums += torch.stack([loss, norm.detach(), taken.rate, taken.rate_squared])
        self._steps += 1
        self._tokens += taken.n_tokens
        self._work += taken.work

    def first_bad(self) -> int | None:
        """The first step whose loss or gradient norm was not finite."""
        step = int(self._first_bad)
        return None if step < 0 else step

    def flops(self, model: Transformer, length: int) -> float:
        """Floating-point operations of the steps since the last call; see `flops_of`."""
        found = flops_of(model, self._work, length)
        self._work.clear()
        self._flops += found
        return found

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
            "flops_per_second": self._flops / elapsed if elapsed > 0 else 0.0,
        }
        if self._peak is not None:
            values["utilisation"] = values["flops_per_second"] / self._peak
        self._seconds = seconds
        self._clear()
        return values
