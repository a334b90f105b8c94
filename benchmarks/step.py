"""Time a training step beside others of the same size.

    .venv/bin/python benchmarks/step.py --preset tiny --vocab 30000
    .venv/bin/python benchmarks/step.py --preset tiny --vocab 30000 --precision bf16 --compile

ours        the vocabulary projection and its cross-entropy on masked positions, a chunk at a time
naive       the same model as the field's trainers step it: logits at every position, a log-softmax
            over all of (B, L, V), the loss times the mask, an AdamW that loops over the parameters
bert        transformers' BertForMaskedLM, ``sdpa`` attention
modernbert  transformers' ModernBertForMaskedLM, ``sdpa`` attention

Layers, width, heads, vocabulary, batch, masks and precision are the same (transformers' networks
have as many parameters in their matrices). All take turns in one process; a ratio is the median
over rounds, with the rounds' quartiles. The share of each part of our step is measured apart, not
compiled, with the preset's own optimiser; peak memory in a process of its own.
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import sys
import time
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from step_cases import CPU, STEPS, Case
from unmask.config import load_preset, preset_names
from unmask.diffusion.objective import predicted_loss
from unmask.recipe import parse_recipe
from unmask.train.device import autocast
from unmask.train.optim import build_optimizers


def compare(case: Case, names: list[str], rounds: int) -> dict[str, float]:
    """Let the steps take turns and summarise."""
    steps = {name: STEPS[name](case) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + 2):
        batch = case.batch(number)
        order = names if number % 2 else names[::-1]
        for name in order:
            started = time.perf_counter()
            steps[name](batch)
            if number >= 2:  # the first two compile, and warm up allocators and caches
                seconds[name].append(time.perf_counter() - started)
    result = {f"{name}_tokens_per_s": case.tokens / statistics.median(seconds[name])
              for name in names}  # fmt: skip
    for name in names[1:]:
        ratios = [slow / fast for fast, slow in zip(seconds["ours"], seconds[name], strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4)
        prefix = "ratio" if name == "naive" else f"{name}_ratio"
        result |= {prefix: statistics.median(ratios)}
        result |= {f"{prefix}_quartile_low": low, f"{prefix}_quartile_high": high}
    return result


def parts(case: Case, rounds: int) -> dict[str, float]:
    """Share of each part in our step, forward and backward together, with the preset's optimiser.

    The graph is cut behind the embedding and before the head, and each piece timed on its own.
    """
    model, recipe = case.model(), parse_recipe(case.config.recipe)
    optimizers = build_optimizers(model, case.config.train)
    cut: list[Tensor] = []

    def cut_here(_module: nn.Module, _inputs: object, out: Tensor) -> Tensor:
        cut[:] = [out, out.detach().requires_grad_()]
        return cut[1]

    model.embedding.register_forward_hook(cut_here)
    taken: dict[str, list[float]] = {}
    for number in range(rounds + 2):
        marks = [("", time.perf_counter())]

        def mark(name: str, marks: list[tuple[str, float]] = marks) -> None:
            marks.append((name, time.perf_counter()))

        batch = case.batch(number)
        corrupted = recipe.corrupt(batch.x, batch.t, batch.u, valid=None, mask_id=case.mask_id)
        weights = recipe.weights(batch.t) / batch.n_tokens
        mark("data")
        with autocast(CPU, case.precision):
            hidden = model(corrupted.inputs)
            mark("blocks")
            leaf = hidden.detach().requires_grad_()
            loss = predicted_loss(leaf, batch.x, corrupted.predicted, weights, model.head)
        loss.backward()
        mark("head and loss")
        hidden.backward(leaf.grad)
        mark("blocks")
        cut[0].backward(cut[1].grad)
        mark("embedding")
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        mark("optimiser")
        spent: dict[str, float] = {}
        for (_, before), (name, after) in pairwise(marks):
            spent[name] = spent.get(name, 0.0) + after - before
        if number >= 2:
            for name, value in spent.items():
                taken.setdefault(name, []).append(value)
    medians = {name: statistics.median(values) for name, values in taken.items()}
    return {name: value / sum(medians.values()) for name, value in medians.items()}


def _peak(name: str, case: Case) -> int:
    """Bytes of resident memory that three steps add to a process at their peak, weights apart."""
    step = STEPS[name](case)
    unit = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(3):
        step(case.batch(number))
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit


def peak_bytes(name: str, case: Case) -> int:
    """`_peak` in a fresh process, which remembers no other's."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (name, case))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sizes = [name for name in preset_names() if name != "fast"]
    parser.add_argument("--preset", default="tiny", choices=sizes)
    parser.add_argument("--vocab", type=int, default=8192, help="vocabulary with the mask token")
    parser.add_argument("--batch", type=int, help="sequences; default: the preset's")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--compile", action="store_true", help="compile all networks")
    parser.add_argument("--against", default="naive", help="comma-separated: naive,bert,modernbert")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    config = load_preset(args.preset)
    if args.batch:
        train = config.train.model_copy(update={"batch_size": args.batch, "accumulation": 1})
        config = config.model_copy(update={"train": train})
    case = Case(config, args.vocab, args.precision, args.compile)
    names = ["ours", *args.against.split(",")]
    if unknown := set(names) - set(STEPS):
        parser.error(f"--against: no {', '.join(unknown)}; valid: naive, bert, modernbert")
    peaks = {name: peak_bytes(name, case) for name in names}
    result: dict[str, Any] = {
        **compare(case, names, args.rounds),
        "peak_bytes": peaks["ours"],
        **{f"{name}_peak_bytes": peaks[name] for name in names[1:]},
        "parts": parts(case, args.rounds),
        "rounds": args.rounds,
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(result) if args.json else _text(args, names, result))


def _text(args: argparse.Namespace, names: list[str], result: dict[str, Any]) -> str:
    compiled = ", compiled" if args.compile else ""
    lines = [
        f"preset {args.preset}, vocabulary {args.vocab:,}, {args.precision}{compiled}, "
        f"{args.rounds} rounds, {result['threads']} threads"
    ]
    for name in names:
        prefix = "ratio" if name == "naive" else f"{name}_ratio"
        key = "peak_bytes" if name == "ours" else f"{name}_peak_bytes"
        line = f"  {name:<11}{result[f'{name}_tokens_per_s']:>9,.0f} tokens/s, "
        line += f"peak {result[key] / 2**20:,.0f} MiB"
        if prefix in result and name != "ours":
            line += f"; ours is {result[prefix]:.2f}x as fast (quartiles "
            line += f"{result[f'{prefix}_quartile_low']:.2f} to "
            line += f"{result[f'{prefix}_quartile_high']:.2f})"
        lines.append(line)
    shares = ", ".join(f"{name} {share:.0%}" for name, share in result["parts"].items())
    return "\n".join([*lines, f"  parts of our step: {shares}"])


if __name__ == "__main__":
    main()
