"""How much each estimator of the NELBO scatters, at equal compute, on a trained run.

    .venv/bin/python benchmarks/estimators.py runs/sweep-bpe/bell/seed-0

The validation blocks are fixed, the masks' seed varies: the spread of the estimates is the noise of
rates and masks alone. Every estimator makes the same number of forward passes over each block. The
variance is given over that of the first, the field's usual one; +- is its standard error (bootstrap
over seeds).
"""

import argparse
from pathlib import Path

import numpy as np
from rich.progress import track

from unmask.data import load_data
from unmask.diffusion.estimators import ESTIMATORS
from unmask.evaluate import ValidationConfig, validate
from unmask.run import open_run


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--blocks", type=int, default=64)
    parser.add_argument("--draws", type=int, default=2, help="forward passes over each block, even")
    parser.add_argument("--seeds", type=int, default=20)
    args = parser.parse_args()
    run = open_run(args.run)
    blocks = load_data(run.config.corpus).valid
    found: dict[str, list[float]] = {name: [] for name in ESTIMATORS}
    for seed in track(range(args.seeds), transient=True):
        config = ValidationConfig(blocks=args.blocks, draws=args.draws, seed=seed)
        for name in ESTIMATORS:
            bound = validate(run.model, blocks, config, run.tokenizer.mask_id, estimator=name)
            found[name].append(bound.nelbo)
    values = np.array(list(found.values()))
    rng = np.random.default_rng(0)
    again = values[:, rng.integers(args.seeds, size=(2000, args.seeds))].var(axis=-1, ddof=1)
    variance = values.var(axis=1, ddof=1)
    print(f"{args.blocks} blocks, {args.draws} draws each, {args.seeds} seeds\n")
    print("| estimator | mean NELBO | standard deviation | variance over the first's |")
    print("|---|---|---|---|")
    for row, name in enumerate(ESTIMATORS):
        ratio, error = variance[row] / variance[0], (again[row] / again[0]).std()
        print(
            f"| {name} | {values[row].mean():.4f} | {variance[row] ** 0.5:.4f} | "
            f"{ratio:.3f} ± {error:.3f} |"
        )


if __name__ == "__main__":
    main()
