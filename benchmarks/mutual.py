"""The estimate of mutual information on sparse sources of known information.

Pairs of tokens from a Zipf law over V = 8192: the second is a copy of the first (copy), or of the
first's group of V / 50 tokens (group), with the given chance; otherwise it is drawn anew.
"""

import argparse

import numpy as np

from unmask.data.blocks import Blocks
from unmask.data.information import mutual_information, read_text

V = 8192
GROUPS = 50


def draw(kind: str, chance: float, n: int, seed: int) -> tuple[np.ndarray, float]:
    """Pairs (n, 2), and the information between their tokens in nats."""
    rng = np.random.default_rng(seed)
    p = 1 / (np.arange(V) + 2.7)
    p /= p.sum()
    first, second = rng.choice(V, n, p=p), rng.choice(V, n, p=p)
    group = np.arange(V) if kind == "copy" else np.arange(V) % GROUPS
    mass = np.bincount(group, p)
    tied = np.flatnonzero(rng.random(n) < chance)
    for g in np.unique(group[first[tied]]):
        here, members = tied[group[first[tied]] == g], np.flatnonzero(group == g)
        second[here] = rng.choice(members, len(here), p=p[members] / mass[g])
    same = chance * mass + (1 - chance) * mass**2
    other = (1 - chance) * np.log(1 - chance) * (1 - (mass**2).sum())
    return np.stack([first, second], axis=1), float((same * np.log(same / mass**2)).sum() + other)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, nargs="+", default=[300_000, 1_000_000])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sources = [("group", 0.0), ("group", 0.05), ("group", 0.3), ("group", 0.6)]
    sources += [("copy", 0.1), ("copy", 0.3)]
    print("source chance pairs truth plug-in estimate stderr")
    for n in options.pairs:
        for kind, chance in sources:
            pairs, truth = draw(kind, chance, n, options.seed)
            # blocks of one pair each, which no pair crosses
            blocks = Blocks(pairs, np.full(n, 2, dtype=np.int32), 2 * n, 2 * n)
            found = mutual_information(read_text(blocks, most=2 * n), [1])
            numbers = (truth, found.plugin[0], found.nats[0], found.stderr[0])
            print(kind, chance, f"{n:,}", *(f"{x:.4f}" for x in numbers), flush=True)
