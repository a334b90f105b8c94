"""Time a training step of two processes on CPUs, whose weights are divided or not, by optimiser.

    .venv/bin/python benchmarks/shards.py --presets nano,tiny --rounds 9

none  one process takes the whole global batch, and the other waits
ddp   each takes half of it and holds all weights
fsdp  each takes half of it and holds half of the weights

Every process computes with one thread, and they talk over gloo. All cases of a preset take turns in
the same processes. One JSON object a line: the median seconds of a step of the slower process, with
the rounds' quartiles, and of each the ratios, round by round, to adamw with as much divided
(``to_adamw``) and to the same optimiser in one process (``to_none``).
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing

from unmask.config import Config, load_preset
from unmask.data.blocks import Blocks
from unmask.model.transformer import Transformer
from unmask.recipe.parse import parse_recipe
from unmask.train.batch import draw_batches
from unmask.train.optim import build_optimizers
from unmask.train.processes import ALONE, Processes
from unmask.train.sharded import shard
from unmask.train.state import TrainingState
from unmask.train.step import batch_loss, take_step

CPU = torch.device("cpu")
PARALLEL, OPTIMIZERS = ("none", "ddp", "fsdp"), ("adamw", "muon")
WARM_UP = 2
"""Rounds that are not counted."""


def case(
    config: Config, vocab: int, parallel: str, optimizer: str, processes: Processes
) -> Callable[[int], None]:
    """A training step as the loop takes it; the number of the step decides its batch."""
    train = config.train.model_copy(update={"optimizer": optimizer})
    shape, length = config.model, config.corpus.block_size
    start = vocab - 1 if shape.late or shape.shift else None
    torch.manual_seed(0)
    model = Transformer(shape, vocab, (vocab - 1,), mask_id=vocab - 1, start=start)
    if parallel == "fsdp":
        shard(model, CPU, torch.float32)
    loss = batch_loss(model, vocab - 1, processes=processes)
    state = TrainingState(model, build_optimizers(model, train), None, {})
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, vocab - 1, (2 * train.batch_size, length)).astype(np.uint16)
    blocks = Blocks(tokens, None, n_tokens=tokens.size, n_bytes=tokens.size)
    recipe, n = parse_recipe("bell"), train.batch_size
    together = processes.shares(n) if processes.sharded else ()

    def step(number: int) -> None:
        batches = draw_batches(
            recipe, blocks, train, seed=0, step=number, device=CPU,
            mine=processes.share(n), together=together,
        )  # fmt: skip
        take_step(state, loss, batches, train, step=number, learning_rate=1e-4, processes=processes)

    return step


def measure(rank: int, port: int, args: argparse.Namespace) -> None:
    """One of the two processes; the first prints."""
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=2, timeout=timedelta(minutes=10))
    kinds = {
        "none": ALONE,
        "ddp": Processes(rank, 2, rank),
        "fsdp": Processes(rank, 2, rank, sharded=True),
    }
    for preset in args.presets.split(","):
        config = load_preset(preset)
        cases = {
            (parallel, optimizer): case(config, args.vocab, parallel, optimizer, kinds[parallel])
            for parallel in PARALLEL
            for optimizer in OPTIMIZERS
        }
        seconds: dict[tuple[str, str], list[float]] = {name: [] for name in cases}
        for number in range(args.rounds + WARM_UP):
            order = list(cases) if number % 2 else list(cases)[::-1]
            for name in order:
                dist.barrier()
                started = time.perf_counter()
                if name[0] != "none" or rank == 0:
                    cases[name](number)
                slower = torch.tensor(time.perf_counter() - started)
                dist.all_reduce(slower, dist.ReduceOp.MAX)
                if number >= WARM_UP:
                    seconds[name].append(float(slower))
        if rank == 0:
            for parallel, optimizer in cases:
                taken = seconds[parallel, optimizer]
                line = {
                    "preset": preset,
                    "vocab": args.vocab,
                    "batch": config.train.batch_size,
                    "block_size": config.corpus.block_size,
                    "parallel": parallel,
                    "optimizer": optimizer,
                    "rounds": args.rounds,
                    **spread("seconds", taken),
                    **spread("to_adamw", ratios(taken, seconds[parallel, "adamw"])),
                    **spread("to_none", ratios(taken, seconds["none", optimizer])),
                    "torch": torch.__version__,
                }
                print(json.dumps(line), flush=True)
    dist.destroy_process_group()


def ratios(seconds: list[float], others: list[float]) -> list[float]:
    """Of each round."""
    return [one / other for one, other in zip(seconds, others, strict=True)]


def spread(name: str, values: list[float]) -> dict[str, float]:
    """The median and the quartiles."""
    low, _, high = statistics.quantiles(values, n=4)
    return {
        name: round(statistics.median(values), 4),
        f"{name}_quartile_low": round(low, 4),
        f"{name}_quartile_high": round(high, 4),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--presets", default="nano,tiny", help="sizes")
    parser.add_argument("--vocab", type=int, default=8192, help="vocabulary with the mask token")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--port", type=int, default=29511, help="a free one")
    args = parser.parse_args()
    torch.multiprocessing.spawn(measure, (args.port, args), nprocs=2)


if __name__ == "__main__":
    main()
