"""Time every sampler on trained runs, and ancestral sampling with and without its skipping.

    .venv/bin/python benchmarks/samplers.py runs/a --steps 256
    .venv/bin/python benchmarks/samplers.py runs/a runs/b --samplers ancestral,unskipped

Samples a second and network evaluations a batch, runs and samplers taking turns; a ratio is the
median over rounds, with the quartiles: to ``unskipped`` of the same run, and to the same sampler of
the first run. ``unskipped`` is ancestral sampling as the field's code does it:
every step predicts every position still masked, also a step that reveals nothing.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor

from unmask.diffusion.decoding import Decoding
from unmask.diffusion.noise import Stream
from unmask.diffusion.sampler import SAMPLERS, Sampler, Task
from unmask.run import Run, open_run


class Counted:
    """The denoiser of a run that counts its evaluations and the logits it makes."""

    def __init__(self, run: Run) -> None:
        self.model = run.model
        self.evaluations = self.rows = 0

    def __call__(self, x: Tensor, where: Tensor) -> Tensor:
        """Logits at the positions asked for."""
        self.evaluations += 1
        self.rows += int(where.sum())
        hidden = self.model(x, predicted=where)
        logits: Tensor = self.model.head(hidden[where])
        return logits


def unskipped(task: Task, on_step: object) -> Tensor:
    """Ancestral sampling that predicts everything at every step."""
    x, left = task.x, task.where
    for k in range(task.steps):
        chosen = left & (task.uniform(Stream.SAMPLE_UNMASK, k) < 1 / (task.steps - k))
        asked = left if left.any() else task.where
        drawn = torch.zeros_like(x)
        v = task.uniform(Stream.SAMPLE_TOKEN, k)
        drawn[asked] = task.decoding.draw(task.denoise(x, asked), v[asked])
        x, left = torch.where(chosen, drawn, x), left & ~chosen
    return x


def main() -> None:
    """Print the table."""
    samplers: dict[str, Sampler] = {**SAMPLERS, "unskipped": unskipped}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--samplers", default=",".join(samplers), help="default: %(default)s")
    parser.add_argument("--num", type=int, default=8, help="samples in a batch")
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--steps", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    names = [*dict.fromkeys([*asked.samplers.split(","), "unskipped"])]
    runs = {str(path): open_run(path) for path in asked.runs}
    first = next(iter(runs))
    seconds: dict[tuple[str, str], list[float]] = {(r, n): [] for r in runs for n in names}
    counts: dict[tuple[str, str], tuple[int, int]] = {}
    with torch.no_grad():
        for round_ in range(asked.rounds + 1):  # the first warms up
            for name in names:
                for path, run in runs.items():
                    mask_id = run.tokenizer.mask_id
                    x = torch.full((asked.num, asked.length), mask_id)
                    denoise = Counted(run)
                    task = Task(denoise, x, x == mask_id, asked.steps, Decoding(), seed=round_)
                    started = time.perf_counter()
                    samplers[name](task, lambda x: None)
                    if round_:
                        seconds[path, name].append(time.perf_counter() - started)
                        counts[path, name] = denoise.evaluations, denoise.rows
    print(f"{asked.num} samples of {asked.length} tokens, {asked.steps} steps")
    print(
        "| run | sampler | samples/s | network evaluations | logits per token | times unskipped's "
        "speed | times the first run's |"
    )
    print("|---|---|---|---|---|---|---|")
    for (path, name), times in seconds.items():
        evaluations, rows = counts[path, name]
        print(
            f"| {path} | {name} | {asked.num / statistics.median(times):.2f} | {evaluations} | "
            f"{rows / (asked.num * asked.length):.1f} | {ratio(seconds[path, 'unskipped'], times)} "
            f"| {ratio(seconds[first, name], times)} |"
        )


def ratio(before: list[float], after: list[float]) -> str:
    """How many times faster, round by round: the median, and the quartiles."""
    low, middle, high = statistics.quantiles(
        (a / b for a, b in zip(before, after, strict=True)), n=4
    )
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
