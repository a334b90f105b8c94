"""What a person sees of a training run."""

from collections.abc import Mapping

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from unmask.diffusion.bound import Bound


class TrainingBar(Progress):
    """A progress bar with loss, validation bound and speed; lines where there is no terminal."""

    def __init__(self, console: Console, total: int, done: int) -> None:
        super().__init__(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=None),
            TextColumn("loss {task.fields[loss]}  NELBO {task.fields[nelbo]}"),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            expand=True,
        )
        self._speed = ""
        self._task = self.add_task("", total=total, completed=done, loss="-", nelbo="-", speed="")

    def step(self, step: int) -> None:
        """A step is done."""
        self.update(self._task, completed=step)

    def training(self, summary: Mapping[str, float]) -> None:
        """Show the latest training loss and speed."""
        self._speed = f"{summary['tokens_per_second']:,.0f} tokens/s"
        self._speed += f", {summary['flops_per_second'] / 1e12:.3g} TFLOP/s"
        if "utilisation" in summary:
            self._speed += f", {summary['utilisation']:.0%}"
        loss = f"{summary['loss']:.3f}" if "loss" in summary else "-"  # all steps were left out
        self.update(self._task, loss=loss, speed=self._speed)

    def evaluated(self, step: int, bound: Bound, bits_per_byte: str) -> None:
        """Print an evaluation, a line that stays."""
        self.update(self._task, nelbo=f"{bound.nelbo:.3f}")
        self.console.print(
            f"step {step:>7,}  NELBO {bound.nelbo:.4f} ± {bound.stderr:.4f} nats/token"
            f"  ppl {bound.ppl:,.2f}  {bits_per_byte} bits/byte  {self._speed}".rstrip(),
        )
