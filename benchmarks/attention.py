"""Backward pass of torch's attention on a CPU, float32 against bfloat16: milliseconds, medians.

.venv/bin/python benchmarks/attention.py      # --json: as one JSON object
"""

import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F


def backward_ms(dtype: torch.dtype, rounds: int = 13) -> float:
    """The shape of preset ``tiny``: 32 sequences, 6 heads, 128 tokens, 32 channels a head."""
    x = torch.randn(32, 6, 128, 32, dtype=dtype, requires_grad=True)
    gradient = torch.randn_like(x)
    seconds = []
    for _ in range(rounds):
        out = F.scaled_dot_product_attention(x, x, x)
        started = time.perf_counter()
        out.backward(gradient)
        seconds.append(time.perf_counter() - started)
    return 1000 * statistics.median(seconds[3:])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    times = {str(d).removeprefix("torch."): backward_ms(d) for d in (torch.float32, torch.bfloat16)}
    if asked.json:
        print(json.dumps(times))
    else:
        print("\n".join(f"{name}: {value:.1f} ms" for name, value in times.items()))
