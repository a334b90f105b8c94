"""Training numbers since the last log line, kept on the device until someone looks."""

import torch
from torch import Tensor

from unmask.model.network import Network
from unmask.train.batch import Work
from unmask.train.step import Taken, flops_of

PENDING = "recent"
"""Name of the checkpoint file that holds what the next log line is to say."""


class Recent:
    """Accumulates loss, gradient norm and mask rates without waiting for the device.

    Args:
        seconds: the run's training time so far.
        skip: most steps in a row that may be left out.
        peak: FLOPs a second of all devices together; None where that is not known.
    """

    def __init__(
        self, device: torch.device, seconds: float, *, skip: int, peak: float | None = None
    ) -> None:
        self._device = device
        self._skip, self._peak = skip, peak
        self._work: list[Work] = []
        self._seconds = seconds
        # Steps left out in a row, the first of them, and the one that training failed at.
        self._row = torch.zeros((), dtype=torch.int64, device=device)
        self._first, self._failed = self._row - 1, self._row - 1
        self._clear()

    def _clear(self) -> None:
        self._sums = torch.zeros(5, device=self._device)
        self._steps, self._tokens, self._flops = 0, 0, 0.0

    def add(self, step: int, taken: Taken) -> None:
        """Take the numbers of a step; of one that was left out, that it was."""
        good = taken.good
        self._first = torch.where(good, -1, torch.where(self._first < 0, step, self._first))
        self._row = torch.where(good, 0, self._row + 1)
        bad = ~torch.isfinite(taken.loss) & good  # its gradient was, so the weights are another's
        failed = torch.where(bad, step, torch.where(self._row > self._skip, self._first, -1))
        self._failed = torch.where(self._failed < 0, failed, self._failed)
        numbers = [taken.loss, taken.norm.detach(), taken.rate, taken.rate_squared]
        kept = torch.stack([*numbers, torch.ones_like(taken.loss)])
        self._sums += torch.where(good, kept, 0.0)
        self._steps += 1
        self._tokens += taken.n_tokens
        self._work += taken.work

    def failed(self) -> int | None:
        """The step that training failed at: the first of too many that were left out in a row."""
        step = int(self._failed)
        return None if step < 0 else step

    def flops(self, model: Network, length: int) -> float:
        """Floating-point operations of the steps since the last call; see `flops_of`."""
        found = flops_of(model, self._work, length)
        self._work.clear()
        self._flops += found
        return found

    def files(self) -> dict[str, dict[str, Tensor]]:
        """The checkpoint file of the steps since the last log line; none where there are none."""
        row, first = int(self._row), int(self._first)
        if not self._steps and not row:
            return {}
        return {
            PENDING: {
                "sums": self._sums,
                "counts": torch.tensor([self._steps, self._tokens, row, first]),
                "costs": torch.tensor([self._flops, self._seconds], dtype=torch.float64),
            }
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `files` gave."""
        self._sums.copy_(tensors["sums"])
        self._steps, self._tokens, row, first = tensors["counts"].tolist()
        self._row.fill_(row)
        self._first.fill_(first)
        self._flops, self._seconds = tensors["costs"].tolist()

    def summary(self, seconds: float) -> dict[str, float]:
        """Means over the steps since the last call that were not left out, and how many were.

        Args:
            seconds: the run's training time.
        """
        *sums, count = self._sums.tolist()
        values: dict[str, float] = {}
        if count:
            loss, norm, mean, square = (x / count for x in sums)
            std = max(square - mean**2, 0.0) ** 0.5
            values = {"loss": loss, "grad_norm": norm, "rate_mean": mean, "rate_std": std}
        elapsed = seconds - self._seconds
        values |= {
            "skipped": self._steps - int(count),
            "tokens_per_second": self._tokens / elapsed if elapsed > 0 else 0.0,
            "flops_per_second": self._flops / elapsed if elapsed > 0 else 0.0,
        }
        if self._peak is not None:
            values["utilisation"] = values["flops_per_second"] / self._peak
        self._seconds = seconds
        self._clear()
        return values
