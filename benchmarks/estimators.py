"""How much each estimator of the NELBO scatters, at equal compute, on a trained run.

    .venv/bin/python benchmarks/estimators.py runs/sweep-bpe/bell/seed-0

The validation blocks are fixed and the masks' seed varies: what a block's estimates scatter by is
the noise of rates and masks alone. Every estimator makes the same number of forward passes over
each block. Given are the standard error that `unmask evaluate` states (over blocks: the text's own
variety is in it), the standard deviation that the masks alone give the mean, and its square over
that of the first, the field's usual one. +- is a standard error (bootstrap over blocks).
"""

import argparse
import math
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from unmask.data.load import pack_own_validation
from unmask.diffusion.estimators import ESTIMATORS
from unmask.evaluate.subject import open_subject
from unmask.train.config import ValidationConfig
from unmask.train.validation import validate


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--blocks", type=int, default=64)
    parser.add_argument("--draws", type=int, default=2, help="forward passes over each block, even")
    parser.add_argument("--seeds", type=int, default=20)
    args = parser.parse_args()
    subject = open_subject(args.run)
    tokenizer = subject.tokenizer
    packing = "wrap" if subject.packing == "cover" else subject.packing
    blocks = pack_own_validation(
        Path(args.run), subject.corpus, tokenizer, subject.block_size, packing
    )
    nats: dict[str, list[np.ndarray]] = {name: [] for name in ESTIMATORS}
    stated: dict[str, list[float]] = {name: [] for name in ESTIMATORS}
    for seed in track(range(args.seeds), transient=True, console=Console(stderr=True)):
        config = ValidationConfig(blocks=args.blocks, draws=args.draws, seed=seed)
        for name in ESTIMATORS:
            bound = validate(subject.denoiser, blocks, config, tokenizer.mask_id, estimator=name)
            nats[name].append((bound.block_nats / bound.block_tokens).numpy())
            stated[name].append(bound.stderr)
    values = np.array(list(nats.values()))  # (estimators, seeds, blocks)
    by_block = values.var(axis=1, ddof=1)  # the noise is independent between blocks
    n = by_block.shape[1]
    rng = np.random.default_rng(0)
    again = by_block[:, rng.integers(n, size=(2000, n))].mean(axis=-1)
    variance = by_block.mean(axis=1)
    print(f"{n} blocks, {args.draws} draws each, {args.seeds} seeds\n")
    print("| estimator | mean NELBO | standard error | of the masks alone | variance ratio |")
    print("|---|---|---|---|---|")
    for row, name in enumerate(ESTIMATORS):
        ratio, error = variance[row] / variance[0], (again[row] / again[0]).std()
        print(
            f"| {name} | {values[row].mean():.4f} | {np.mean(stated[name]):.4f} | "
            f"{math.sqrt(variance[row] / n):.4f} | {ratio:.3f} ± {error:.3f} |"
        )


if __name__ == "__main__":
    main()
