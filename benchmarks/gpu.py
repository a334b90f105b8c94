"""Time a training step on an accelerator: tokens a second, utilisation, memory. `gpu.sh` runs it.

    .venv/bin/python benchmarks/gpu.py --preset small --batch 512 --out OUT/step.json

The steps take turns and are those of `step.py`: ours (bfloat16, compiled), the field's naive one
(bfloat16, compiled), and the step as published (float32, not compiled). A ratio is the median over
rounds, with quartiles. Utilisation counts the model's own FLOPs, the same for all, over the
device's peak.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from step_cases import STEPS, Case, Step
from unmask.config import load_preset, with_options
from unmask.train.device import choose_device, peak_flops
from unmask.train.step import flops_of

WARM_UP = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="small")
    parser.add_argument("--vocab", type=int, default=30522)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--against", default="naive,published")
    parser.add_argument("--seconds", type=float, default=120, help="of timed rounds")
    parser.add_argument("--eager", action="store_true", help="do not compile")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    device = choose_device(asked.device)
    options = {"train.batch_size": asked.batch, "corpus.block_size": asked.length}
    config = with_options(load_preset(asked.preset), options)
    case = Case(config, asked.vocab, "bf16", compile=not asked.eager, device=device)
    names = ["ours", *asked.against.split(",")]
    result = {**machine(device), "preset": asked.preset, "batch": asked.batch,
              "length": asked.length, "vocabulary": asked.vocab}  # fmt: skip
    result |= compare(case, names, asked.seconds)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def machine(device: torch.device) -> dict[str, object]:
    """What it was measured on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"device": name, "torch": torch.__version__}


def compare(case: Case, names: list[str], seconds: float) -> dict[str, object]:
    """Let the steps take turns for so many seconds, and summarise."""
    steps: dict[str, Step] = {}
    memory: dict[str, float] = {}
    for name in names:
        if case.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        before = _allocated(case.device)
        try:
            steps[name] = STEPS[name](case)
            for number in range(WARM_UP):
                steps[name](case.batches(number, name))
            _wait(case.device)
            memory[name] = (_peak(case.device) - before) / 2**30
        except torch.OutOfMemoryError:  # the naive step may not fit where ours does
            steps.pop(name, None)
            torch.cuda.empty_cache()
    taken: dict[str, list[float]] = {name: [] for name in steps}
    started, number = time.perf_counter(), WARM_UP
    while time.perf_counter() - started < seconds or number < WARM_UP + 3:
        for name in list(steps)[:: 1 if number % 2 else -1]:
            batches = case.batches(number, name)
            _wait(case.device)
            begun = time.perf_counter()
            steps[name](batches)
            _wait(case.device)
            taken[name].append(time.perf_counter() - begun)
        number += 1
    flops = flops_of(case.model(), case.batches(0)[0].work, case.config.corpus.block_size)
    peak = peak_flops(case.device, "bf16")
    result: dict[str, object] = {"rounds": number - WARM_UP, "flops_per_step": flops}
    for name in names:
        if name not in taken:
            result[name] = "out of memory"
            continue
        median = statistics.median(taken[name])
        ratios = [a / b for a, b in zip(taken[name], taken["ours"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        result[name] = {
            "tokens_per_second": case.tokens / median,
            "utilisation": None if peak is None else flops / median / peak,
            "peak_gib": memory[name],
            "times_ours": [low, middle, high],
        }
    return result


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _allocated(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def _peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


if __name__ == "__main__":
    main()
