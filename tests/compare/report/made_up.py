"""A comparison's folder as `unmask compare` leaves it, made up: four arms, a few evaluations.

The baseline falls from 6 to 4 nats per token in a straight line. The others fall 2, 1.5 and 3 times
as fast, the first of them only to 4.2; with two seeds, one is 1.1 times as fast as that, the other
1 / 1.1 times.
"""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unmask.config import Config, save_config

STEPS = range(0, 201, 20)
LONG = "bell:mean=0.35,std=0.15+train.optimizer=muon"
NASTY = "bell+x=<script>alert('arm')</script>&$a_b$|`"
SAMPLE = "if a < b && c:\n    <script>alert('sample')</script>\x00\x07 \ud800"


@dataclass(frozen=True)
class MadeUp:
    """An arm: its recipe, its bound by step and speed, and which blocks are the hard ones."""

    recipe: str
    bound: Callable[[int, float], float]
    speed: float = 1.0
    hard: Callable[[int], int] = lambda block: block + 1


def line(recipe: str, speed: float, floor: float, **more: Any) -> MadeUp:
    return MadeUp(recipe, lambda step, fast: max(6 - fast * step / 100, floor), speed, **more)


# Odd blocks have 0.25 nats more; of the second arm another half has, so pairs scatter.
ARMS = {
    "standard": line("standard", 1.0, 4.0),
    LONG: line("bell:mean=0.35,std=0.15", 2.0, 4.2, hard=lambda block: block // 2),
    NASTY: line("mirror", 1.5, 0.5),
    "ar": line("ar", 3.0, 0.5),
}


def many(count: int) -> dict[str, MadeUp]:
    """Arms as a sweep has them, up to 24, with curves that bend and cross."""
    bells = [f"bell:mean={m},std={s}" for m in (0.3, 0.35, 0.4, 0.5, 0.6) for s in (0.1, 0.2, 0.3)]
    names = ["standard", "fast", "bell", "narrow", "ar", "mirror", LONG, "puma", "window", *bells]

    def bent(number: int) -> Callable[[int, float], float]:
        end = 3.4 - 0.35 * math.sin(1.7 * number) - 0.2 * (number > 0)
        return lambda step, fast: end + (6.8 - end) * math.exp(-fast * step / 60)

    return {
        name: MadeUp(name.split("+")[0], bent(number), 1 + 0.6 * ((7 * number) % 11) / 11)
        for number, name in enumerate(names[:count])
    }


def write_run(run: Path, arm: MadeUp, seed: int, speed: float, last: int) -> None:
    """Configuration and records of a run that ends after step ``last`` of 200."""
    values: Any = {"steps": STEPS[-1], "batch_size": 4}
    save_config(Config(recipe=arm.recipe, seed=seed, train=values), run / "config.yaml")
    lines: list[dict[str, Any]] = []
    blocks = []
    for step in [s for s in STEPS if s <= last]:
        nelbo = arm.bound(step, speed)
        common = {"step": step, "tokens_seen": step * 64, "seconds": step * (0.1 + 0.01 * seed)}
        if step:
            train = {"kind": "train", "loss": nelbo / 2, "grad_norm": 1 + 1 / step}
            train |= {"tokens_per_second": 1000.0 + step, "learning_rate": 0.001}
            lines.append(common | train)
        c_t = None if arm.recipe == "ar" else [nelbo + (bin - 4.5) / 10 for bin in range(10)]
        bound = {"nelbo": nelbo, "stderr": 0.0123, "ppl": math.exp(nelbo), "c_t": c_t}
        lines.append(common | {"kind": "eval", "bits_per_byte": nelbo / 3} | bound)
        ups = [0.25 * (-1) ** arm.hard(b) for b in range(8)]
        blocks.append({"step": step, "nats": [64 * (nelbo + up) for up in ups], "tokens": [64] * 8})
    for name, records in (("metrics", lines), ("blocks", blocks)):
        text = "".join(json.dumps(record) + "\n" for record in records)
        (run / f"{name}.jsonl").write_text(text)


def made_up(
    folder: Path,
    seeds: int = 2,
    states: dict[tuple[str, int], str] | None = None,
    arms: dict[str, MadeUp] | None = None,
) -> Path:
    """Write the folder of a comparison, with how the runs ended where that is not ``done``."""
    recipes = []
    for name, arm in (arms or ARMS).items():
        place = re.sub(r"[^A-Za-z0-9.=,-]+", "_", name)
        runs = []
        for seed in range(seeds):
            state = (states or {}).get((name, seed), "done")
            runs.append({"seed": seed, "state": state})
            if state != "waiting":
                last = 200 if state == "done" else 100
                lead = 1.0 if seeds == 1 or name == "standard" else 1.1 if seed == 0 else 1 / 1.1
                run = folder / place / f"seed-{seed}"
                write_run(run, arm, seed, arm.speed * lead, last)
        samples = {"step": 200, "texts": [SAMPLE, f"second text of {name}"]}
        if runs[0]["state"] == "done":
            (folder / place / "seed-0" / "samples.json").write_text(json.dumps(samples))
        recipes.append({"name": name, "folder": place, "runs": runs})
    plan = {
        "baseline": "standard",
        "seeds": list(range(seeds)),
        "recipes": recipes,
        "machine": {"system": "Linux-test", "cores": 2, "gpu": None},
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
    }
    (folder / "plan.json").write_text(json.dumps(plan))
    return folder
