"""Print the tables of docs/experiments/2026-11-25-performance.md.

They come from the folder that `performance.sh` wrote.

    .venv/bin/python benchmarks/performance_tables.py FOLDER

Two things are computed, and said to be: the shares at ``small``'s own batch (every part but the
optimiser grows with it), and peak memory there (a line through the measured batches).
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

Record = dict[str, Any]
MIB = 2**20
SMALL_BATCH = 512
PARTS = ["data", "embedding", "blocks", "head and loss", "optimiser"]


def table(title: str, header: str, rows: Iterable[list[str]]) -> None:
    """Print a markdown table, its header's cells between bars; nothing where there are no rows."""
    cells = header.split("|")
    lines = [f"| {' | '.join(row)} |" for row in rows]
    if lines:
        rule = "|" + "---|" * len(cells)
        print(f"\n{title}\n", f"| {' | '.join(cells)} |", rule, *lines, sep="\n")


def name(r: Record) -> str:
    """Preset and precision of a record."""
    compiled = ", compiled" if r["compile"] else ""
    return f"`{r['preset'].split(',')[0]}`, {r['precision']}{compiled}"


def ratio(r: Record, prefix: str = "ratio") -> str:
    """A ratio with its quartiles."""
    low, high = r[f"{prefix}_quartile_low"], r[f"{prefix}_quartile_high"]
    return f"{r[prefix]:.2f}x ({low:.2f} to {high:.2f})"


def speed(r: Record) -> list[str]:
    """Ours against naive."""
    numbers = [f"{r[f'{who}_tokens_per_s']:,.0f}" for who in ("ours", "naive")]
    row = [name(r), f"{r['vocab']:,}", f"{r['batch']} x {r['block_size']}", *numbers, ratio(r)]
    if "peak_bytes" not in r:
        return [*row, "", "", ""]
    return [*row, *peaks(r)]


def peaks(r: Record) -> list[str]:
    """Peak memory, ours and naive, and their ratio."""
    ours, naive = r["peak_bytes"], r["naive_peak_bytes"]
    return [f"{ours / MIB:,.0f} MiB", f"{naive / MIB:,.0f} MiB", f"{naive / ours:.2f}x"]


def shares(r: Record, seconds: dict[str, float], batch: int) -> list[str]:
    """Share of each part."""
    row = [name(r), f"{r['vocab']:,}", f"{batch} x {r['block_size']}"]
    return [*row, *(f"{seconds[part] / sum(seconds.values()):.1%}" for part in PARTS)]


def at_batch(r: Record, batch: int) -> dict[str, float]:
    """Seconds of each part at another batch: the optimiser alone does not grow with it."""
    scale = batch / r["batch"]
    return {k: v if k == "optimiser" else v * scale for k, v in r["parts_seconds"].items()}


def memory(records: list[Record], *, line: bool) -> Iterable[list[str]]:
    """Peaks of `small` by batch, and the lines through them at its own where they are asked for."""
    for precision in ("fp32", "bf16"):
        some = [r for r in records if r["precision"] == precision and "peak_bytes" in r]
        some = sorted(some, key=lambda r: r["batch"])
        peaks = {r["batch"]: np.array([r["peak_bytes"], r["naive_peak_bytes"]]) / MIB for r in some}
        if line and len(peaks) > 1:
            slope, base = np.polyfit(list(peaks), np.array(list(peaks.values())), 1)
            peaks[SMALL_BATCH] = base + slope * SMALL_BATCH
        for batch, (ours, naive) in peaks.items():
            note = ", extrapolated" if batch == SMALL_BATCH else ""
            both = f"{ours:,.0f} MiB", f"{naive:,.0f} MiB"
            yield [f"{precision}{note}", f"{batch} x 128", *both, f"{naive / ours:.2f}x"]


def against(r: Record) -> Iterable[list[str]]:
    """Ours beside transformers' networks."""
    for who in ("ours", "naive", "bert", "modernbert"):
        prefix = "ratio" if who == "naive" else f"{who}_ratio"
        as_fast = "" if who == "ours" else ratio(r, prefix)
        yield [name(r), who, f"{r[f'{who}_tokens_per_s']:,.0f}", as_fast]


def ms(r: Record, how: str) -> str:
    """Milliseconds of one way to run Muon's iteration."""
    return f"{r[f'{how}_ms']:.1f} ms"


def main() -> None:
    """Read the folder and print."""
    folder = Path(sys.argv[1])
    records = {
        path.stem: [json.loads(line) for line in path.read_text().splitlines()]
        for path in sorted(folder.glob("*.jsonl"))
    }

    def of(prefix: str) -> list[Record]:
        return [r for key, some in records.items() if key.startswith(prefix) for r in some]

    steps = of("step-")
    versions = {(r["torch"], r["threads"]) for r in steps}
    print("torch and threads:", ", ".join(f"{t}, {n}" for t, n in sorted(versions)))
    table(
        "Ours against the naive step",
        "|vocabulary|batch|ours (tokens/s)|naive|ratio (quartiles)|peak, ours|naive|ratio",
        [speed(r) for r in [*steps, *of("compile-")]],
    )
    small = [r for r in steps if r["preset"].startswith("small")]
    table(
        "Share of each part of our step (Muon, not compiled; `small` at 512: computed)",
        "|vocabulary|batch|" + "|".join(PARTS),
        [shares(r, r["parts_seconds"], r["batch"]) for r in steps]
        + [shares(r, at_batch(r, SMALL_BATCH), SMALL_BATCH) for r in small],
    )
    table(
        "Peak memory at `small`, vocabulary 30,522",
        "|batch|ours|naive|ratio",
        memory([*small, *of("memory-small")], line=True),
    )
    table(
        "The same with our step recomputing its blocks",
        "|batch|ours|naive|ratio",
        memory(of("recompute-small"), line=False),
    )
    table(
        "What recomputing costs: ours against naive, beside the first table's",
        "|vocabulary|batch|ours (tokens/s)|naive|ratio (quartiles)|peak, ours|naive|ratio",
        [speed(r) for r in of("recompute-speed")],
    )
    table(
        "The same with our step in micro-batches",
        "|batch|micro-batches|ours|naive|ratio",
        [
            [name(r), f"{r['batch']} x {r['block_size']}", f"{r['accumulation']}", *peaks(r)]
            for r in of("micro-small")
        ],
    )
    table(
        "Beside transformers' networks: `tiny`, vocabulary 30,000",
        "||tokens/s|ours is as fast",
        [row for r in of("against-") for row in against(r)],
    )
    table(
        "Threads and precision: `nano`, bytes, tokens/s of ours",
        "|threads|tokens/s",
        [[name(r), str(r["threads"]), f"{r['ours_tokens_per_s']:,.0f}"] for r in of("threads-")],
    )
    table(
        "Muon's iteration: a matrix at a time (torch) and a shape at a time",
        "|matrices|threads|loop|batched",
        [
            [
                f"`{r['preset']}`",
                f"{r['matrices']}",
                f"{r['threads']}",
                ms(r, "loop"),
                ms(r, "batched"),
            ]
            for r in of("muon")
        ],
    )
    table(
        "Backward pass of attention, one thread",
        "float32|bfloat16",
        [[f"{r[dtype]:.1f} ms" for dtype in ("float32", "bfloat16")] for r in of("attention")],
    )


if __name__ == "__main__":
    main()
