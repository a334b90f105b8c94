"""A comparison's folder as `unmask compare` leaves it, made up: four arms, a few evaluations.

The baseline falls from 6 to 4 nats per token in a straight line. The others fall 2, 1.5 and 3 times
as fast, the first of them only to 4.2; with two seeds, one is 1.1 times as fast as that, the other
1 / 1.1 times.
"""

import json
import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import pytest

from unmask.compare.report.page import write_report
from unmask.config import Config, save_config

STEPS = range(0, 201, 20)
LONG = "bell:mean=0.35,std=0.15+train.optimizer=muon"
NASTY = "bell+x=<script>alert('arm')</script>&$a_b$|`"
SAMPLE = "if a < b && c:\n    <script>alert('sample')</script>\x00\x07 \ud800"
ARMS = {"standard": (1.0, 4.0), LONG: (2.0, 4.2), NASTY: (1.5, 0.5), "ar": (3.0, 0.5)}
RECIPES = {"standard": "standard", LONG: "bell:mean=0.35,std=0.15", NASTY: "mirror", "ar": "ar"}


def write_run(run: Path, arm: str, seed: int, seeds: int, last: int) -> None:
    """Configuration and records of a run that ends after step ``last`` of 200."""
    speed, floor = ARMS[arm]
    if seeds > 1 and arm != "standard":
        speed *= 1.1 if seed == 0 else 1 / 1.1
    values: Any = {"steps": STEPS[-1], "batch_size": 4}
    save_config(Config(recipe=RECIPES[arm], seed=seed, train=values), run / "config.yaml")
    lines: list[dict[str, Any]] = []
    blocks = []
    for step in [s for s in STEPS if s <= last]:
        nelbo = max(6 - speed * step / 100, floor)
        common = {"step": step, "tokens_seen": step * 64, "seconds": step * (0.1 + 0.01 * seed)}
        if step:
            train = {"kind": "train", "loss": nelbo / 2, "grad_norm": 1 + 1 / step}
            train |= {"tokens_per_second": 1000.0 + step, "learning_rate": 0.001}
            lines.append(common | train)
        c_t = None if arm == "ar" else [nelbo + (bin - 4.5) / 10 for bin in range(10)]
        bound = {"nelbo": nelbo, "stderr": 0.0123, "ppl": math.exp(nelbo), "c_t": c_t}
        lines.append(common | {"kind": "eval", "bits_per_byte": nelbo / 3} | bound)
        # Odd blocks have 0.25 nats more; of the second arm another half has, so pairs scatter.
        ups = [0.25 * (-1) ** (b // 2 if arm == LONG else b + 1) for b in range(8)]
        blocks.append({"step": step, "nats": [64 * (nelbo + up) for up in ups], "tokens": [64] * 8})
    for name, records in (("metrics", lines), ("blocks", blocks)):
        text = "".join(json.dumps(record) + "\n" for record in records)
        (run / f"{name}.jsonl").write_text(text)


def made_up(folder: Path, seeds: int = 2, states: dict[tuple[str, int], str] | None = None) -> Path:
    """Write the folder of a comparison, with how the runs ended where that is not ``done``."""
    recipes = []
    for arm in ARMS:
        place = re.sub(r"[^A-Za-z0-9.=,-]+", "_", arm)
        runs = []
        for seed in range(seeds):
            state = (states or {}).get((arm, seed), "done")
            runs.append({"seed": seed, "state": state})
            if state != "waiting":
                last = 200 if state == "done" else 100
                write_run(folder / place / f"seed-{seed}", arm, seed, seeds, last)
        samples = {"step": 200, "texts": [SAMPLE, f"second text of {arm}"]}
        if runs[0]["state"] == "done":
            (folder / place / "seed-0" / "samples.json").write_text(json.dumps(samples))
        recipes.append({"name": arm, "folder": place, "runs": runs})
    plan = {
        "baseline": "standard",
        "seeds": list(range(seeds)),
        "recipes": recipes,
        "machine": {"system": "Linux-test", "cores": 2, "gpu": None},
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
    }
    (folder / "plan.json").write_text(json.dumps(plan))
    return folder


@pytest.fixture
def comparison(tmp_path: Path) -> Callable[..., Path]:
    """Make the folder of a comparison, as `made_up`."""
    return partial(made_up, tmp_path / "cmp")


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison whose report is drawn; not to be changed."""
    folder = made_up(tmp_path_factory.mktemp("drawn") / "cmp")
    before = dict(matplotlib.rcParams)
    write_report(folder)
    assert dict(matplotlib.rcParams) == before  # matplotlib is left as it was
    return folder
