"""Muon's orthogonalisation here: torch's loop over matrices against batches of one shape.

    .venv/bin/python benchmarks/muon.py --presets nano,tiny,mini

``batched`` stacks the matrices of a shape and runs the same iteration as batched products in
bfloat16. Milliseconds for all matrices of a preset's network, least of the rounds; one JSON object
a line.
"""

import argparse
import json
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim._muon import _zeropower_via_newtonschulz

from unmask.config import load_preset
from unmask.model.transformer import Transformer

A, B, C = 3.4445, -4.7750, 2.0315
EPS, ITERATIONS = 1e-7, 5


def loop(stacks: list[list[Tensor]]) -> list[Tensor]:
    """A matrix at a time, as torch.optim.Muon."""
    return [
        _zeropower_via_newtonschulz(matrix, (A, B, C), ITERATIONS, EPS)
        for stack in stacks
        for matrix in stack
    ]


def batched(stacks: list[list[Tensor]]) -> list[Tensor]:
    """A shape at a time."""
    return [matrix for stack in stacks for matrix in orthogonalised(torch.stack(stack))]


def orthogonalised(x: Tensor) -> Tensor:
    """The iteration on matrices (n, rows, columns), on the side of their smaller Gram matrix."""
    tall = x.shape[1] > x.shape[2]
    x = (x.mT if tall else x).bfloat16()
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=EPS)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        update = torch.baddbmm(gram, gram, gram, beta=B, alpha=C)
        x = torch.baddbmm(x, update, x, beta=A)
    return x.mT if tall else x


def least_ms(work: list[Callable[[], object]], rounds: int) -> list[float]:
    """Milliseconds of each, which take turns."""
    least = [float("inf")] * len(work)
    for _ in range(rounds):
        for i, call in enumerate(work):
            started = time.perf_counter()
            call()
            least[i] = min(least[i], 1000 * (time.perf_counter() - started))
    return least


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", default="nano,tiny,mini")
    parser.add_argument("--threads", type=int, help="default: torch's choice, all cores")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    for preset in args.presets.split(","):
        model = Transformer(load_preset(preset).model, 2)
        shapes: dict[torch.Size, list[Tensor]] = {}
        for p in model.matrix_parameters():
            shapes.setdefault(p.shape, []).append(p.detach())
        stacks = list(shapes.values())
        for one, other in zip(loop(stacks), batched(stacks), strict=True):
            difference = (one - other).norm() / one.norm()
            assert difference < 0.05, difference
        loop_ms, batched_ms = least_ms(
            [lambda s=stacks: loop(s), lambda s=stacks: batched(s)], args.rounds
        )
        print(
            json.dumps(
                {
                    "preset": preset,
                    "threads": torch.get_num_threads(),
                    "matrices": sum(map(len, stacks)),
                    "loop_ms": round(loop_ms, 2),
                    "batched_ms": round(batched_ms, 2),
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
