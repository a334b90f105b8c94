"""Time a training step beside others of the same size.

    .venv/bin/python benchmarks/step.py --preset tiny --vocab 30000
    .venv/bin/python benchmarks/step.py --preset tiny --vocab 30000 --precision bf16 --compile
    .venv/bin/python benchmarks/step.py --preset small --vocab 30522 --batch 8 --rounds 3
    .venv/bin/python benchmarks/step.py --preset tiny --late 2 --against plain,naive

ours        the vocabulary projection and its cross-entropy on masked positions, a chunk at a time
plain       ours with masked positions in all blocks: what ``--late`` changes
naive       the same model as the field's trainers step it: logits at every position, a log-softmax
            over all of (B, L, V), the loss times the mask, an AdamW that loops over the parameters
published   naive in float32, not compiled, with averaged weights
bert        transformers' BertForMaskedLM, ``sdpa`` attention
modernbert  transformers' ModernBertForMaskedLM, ``sdpa`` attention
ARM         ``--arms``, as ``unmask compare --recipes`` takes them: that network and optimiser

Layers, width, heads, vocabulary, batch, masks and precision are the same (transformers' networks
have as many parameters in their matrices). All take turns in one process; a ratio is the median
over rounds, with the rounds' quartiles. FLOPs are those of all matrix products and of attention,
forward and backward, as they are computed. The share of each part of our step is measured apart,
not compiled, with the preset's own optimiser; peak memory in a process of its own. What does not
grow with the batch (the optimiser, its state) weighs more in a small one than in the preset's.
"""

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import sys
import time
from collections import Counter
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import (
    FlopCounterMode,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

from step_cases import CPU, STEPS, Case, arm
from unmask.base.errors import UserError
from unmask.compare.arms import parse_arms
from unmask.config import load_preset
from unmask.diffusion.objective import predicted_loss
from unmask.train.device import autocast, products_of_optimizers
from unmask.train.optim import build_optimizers

WARM_UP = 2
"""Rounds that are not counted: they compile, and warm up allocators and caches."""


def compare(case: Case, names: list[str], rounds: int) -> dict[str, float]:
    """Let the steps take turns and summarise."""
    steps = {name: STEPS[name](case) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + WARM_UP):
        batches = {name: case.batches(number, name) for name in names}
        order = names if number % 2 else names[::-1]
        for name in order:
            started = time.perf_counter()
            steps[name](batches[name])
            if number >= WARM_UP:
                seconds[name].append(time.perf_counter() - started)
    result = {f"{name}_tokens_per_s": case.tokens / statistics.median(seconds[name])
              for name in names}  # fmt: skip
    for name in names[1:]:
        ratios = [slow / fast for fast, slow in zip(seconds["ours"], seconds[name], strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4)
        prefix = _prefix(name)
        result |= {prefix: statistics.median(ratios)}
        result |= {f"{prefix}_quartile_low": low, f"{prefix}_quartile_high": high}
    return result


def parts(case: Case, rounds: int) -> dict[str, float]:
    """Seconds of each part of our step, forward and backward together, with the preset's optimiser.

    The graph is cut behind the embedding and before the head, and each piece timed on its own.
    """
    model = case.model()
    optimizers = build_optimizers(model, case.config.train)
    cut: list[Tensor] = []
    marks: list[tuple[str, float]] = []

    def mark(name: str) -> None:
        marks.append((name, time.perf_counter()))

    def cut_here(_module: nn.Module, _inputs: object, out: Tensor) -> Tensor:
        mark("embedding")
        cut[:] = [out, out.detach().requires_grad_()]
        return cut[1]

    model.embedding.register_forward_hook(cut_here)
    taken: dict[str, list[float]] = {}
    for number in range(rounds + WARM_UP):
        marks.clear()
        mark("start")
        (batch,) = case.batches(number)
        inputs = batch.x.masked_fill(batch.mask, case.mask_id)
        mark("data")
        with autocast(CPU, case.precision):
            hidden = model(inputs)
            mark("blocks")
            leaf = hidden.detach().requires_grad_()
            loss = predicted_loss(leaf, batch.x, batch.mask, batch.weights, model.head)
        loss.backward()
        mark("head and loss")
        hidden.backward(leaf.grad)
        mark("blocks")
        cut[0].backward(cut[1].grad)
        mark("embedding")
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        with products_of_optimizers(CPU):
            for optimizer in optimizers:
                optimizer.step()
        for optimizer in optimizers:
            optimizer.zero_grad()
        mark("optimiser")
        spent: Counter[str] = Counter()
        for (_, before), (name, after) in pairwise(marks):
            spent[name] += after - before
        if number >= WARM_UP:
            for name, value in spent.items():
                taken.setdefault(name, []).append(value)
    return {name: statistics.median(values) for name, values in taken.items()}


def flops(name: str, case: Case) -> int:
    """Floating-point operations of a step, counted as it computes."""
    step, aten = STEPS[name](case), torch.ops.aten
    attention = {
        aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(
            q, k, v
        ),
        aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda g, q, k, v, *_, **__: (
            sdpa_backward_flop_count(g, q, k, v)
        ),
    }
    with FlopCounterMode(display=False, custom_mapping=attention) as counter:
        step(case.batches(0, name))
    return counter.get_total_flops()


def _peak(name: str, case: Case) -> int:
    """Bytes of resident memory that two steps add to a process at their peak, weights apart."""
    case.use_threads()
    step = STEPS[name](case)
    unit = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(2):  # the second has the optimiser's state beside it
        step(case.batches(number, name))
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit


def peak_bytes(name: str, case: Case) -> int:
    """`_peak` in a fresh process, which remembers no other's.

    There glibc maps every tensor for itself: its heap would keep holes, a third of the peak.
    """
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(2**17)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (name, case))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    others = [name for name in STEPS if name != "ours"]
    parser.add_argument("--preset", default="tiny", help="a size")
    parser.add_argument("--optimizer", help="of the parts; default: the preset's")
    parser.add_argument("--vocab", type=int, default=8192, help="vocabulary with the mask token")
    parser.add_argument("--late", type=int, help="model.late of ours; default: the preset's")
    parser.add_argument("--batch", type=int, help="sequences; default: the preset's")
    parser.add_argument("--accumulation", type=int, default=1, help="micro-batches of our step")
    parser.add_argument("--recompute", action="store_true", help="the blocks, in our backward pass")
    parser.add_argument("--threads", type=int, help="default: torch's choice, all cores")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--compile", action="store_true", help="compile all networks")
    parser.add_argument("--against", default="naive", help=f"some of {', '.join(others)}")
    parser.add_argument("--arms", default="", help="NAME+option=value,...: also these")
    parser.add_argument(
        "--only", choices=["speed", "memory", "flops", "parts"], help="default: all"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    names = ["ours", *args.against.split(",")]
    if unknown := set(names) - set(STEPS):
        parser.error(f"--against: no {', '.join(unknown)}; valid: {', '.join(others)}")
    try:
        config = load_preset(args.preset)
        arms = parse_arms(args.arms, config) if args.arms else {}
    except UserError as error:
        parser.error(str(error))
    STEPS.update({name: arm(its) for name, its in arms.items()})
    names += arms
    changes = {"batch_size": args.batch or config.train.batch_size}
    changes |= {"optimizer": args.optimizer or config.train.optimizer}
    changes |= {"accumulation": args.accumulation, "recompute": args.recompute}
    train = config.train.model_copy(update=changes)
    late = config.model.late if args.late is None else args.late
    model = config.model.model_copy(update={"late": late})
    config = config.model_copy(update={"train": train, "model": model})
    case = Case(config, args.vocab, args.precision, args.compile, args.threads)
    result = {
        "preset": args.preset,
        "vocab": args.vocab,
        "late": late,
        "precision": args.precision,
        "compile": args.compile,
        "batch": config.train.batch_size,
        "accumulation": args.accumulation,
        "recompute": args.recompute,
        "block_size": config.corpus.block_size,
        "rounds": args.rounds,
        **measure(case, names, args.rounds, args.only),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    print(json.dumps(result) if args.json else text(names, result))


def measure(case: Case, names: list[str], rounds: int, only: str | None) -> dict[str, Any]:
    """What was asked for, under the names that ``--json`` prints."""
    result: dict[str, Any] = {}
    if only in (None, "memory"):
        for name in names:
            key = "peak_bytes" if name == "ours" else f"{name}_peak_bytes"
            result[key] = peak_bytes(name, case)
    case.use_threads()
    if only in (None, "flops") and not case.compile:
        result |= {f"{name}_flops": flops(name, case) for name in names}
    if only in (None, "speed"):
        result |= compare(case, names, rounds)
    if only in (None, "parts"):
        seconds = parts(case, rounds)
        result["parts"] = {k: v / sum(seconds.values()) for k, v in seconds.items()}
        result["parts_seconds"] = seconds
    return result


def _prefix(name: str) -> str:
    """What the ratio to ours is called."""
    return "ratio" if name == "naive" else f"{name}_ratio"


def text(names: list[str], result: dict[str, Any]) -> str:
    """The same for people."""
    how = result["precision"] + (", compiled" if result["compile"] else "")
    lines = [
        f"preset {result['preset']}, vocabulary {result['vocab']:,}, {how}, "
        f"batch {result['batch']} x {result['block_size']} "
        f"(ours in {result['accumulation']}), {result['rounds']} rounds, "
        f"{result['threads']} threads"
    ]
    for name in names:
        ratio = _prefix(name)
        peak = "peak_bytes" if name == "ours" else f"{name}_peak_bytes"
        line = f"  {name:<11}"
        if f"{name}_tokens_per_s" in result:
            line += f"{result[f'{name}_tokens_per_s']:>9,.0f} tokens/s  "
        if peak in result:
            line += f"peak {result[peak] / 2**20:,.0f} MiB  "
        if f"{name}_flops" in result:
            line += f"{result[f'{name}_flops'] / 1e9:,.1f} GFLOPs  "
        if ratio in result and name != "ours":
            low, high = result[f"{ratio}_quartile_low"], result[f"{ratio}_quartile_high"]
            line += f"ours is {result[ratio]:.2f}x as fast (quartiles {low:.2f} to {high:.2f})"
        lines.append(line.rstrip())
    if "parts" in result:
        shares = (f"{name} {share:.1%}" for name, share in result["parts"].items())
        lines.append(f"  parts of our step: {', '.join(shares)}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
