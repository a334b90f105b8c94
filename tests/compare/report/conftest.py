"""A comparison's folder as `unmask compare` leaves it, made up: three arms, a few evaluations."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

STEPS = range(0, 201, 20)
LONG = "bell:mean=0.35,std=0.15+train.optimizer=muon"
NASTY = "bell+x=<script>alert('arm')</script>&$a_b$"
SAMPLE = "if a < b && c:\n    <script>alert('sample')</script>\x00\x07 \ud800"


def write_lines(path: Path, speed: float, *, seed: int, causal: bool, last: int = 200) -> None:
    """Metrics of a run whose bound falls from log V over a plateau."""
    path.mkdir(parents=True)
    lines: list[dict[str, Any]] = []
    for step in STEPS:
        if step > last:
            break
        nelbo = 9.0 if step == 0 else 6.0 - 2 * (1 - math.exp(-speed * step / 100)) + 0.01 * seed
        common = {"step": step, "tokens_seen": step * 64, "seconds": step * (0.1 + 0.01 * seed)}
        if step:
            train = {"kind": "train", "loss": nelbo / 2, "grad_norm": 1 + 1 / step}
            train |= {"tokens_per_second": 1000.0 + step, "learning_rate": 0.001}
            lines.append(common | train)
        c_t = None if causal else [nelbo + (bin - 4.5) / 10 for bin in range(10)]
        bound = {"nelbo": nelbo, "stderr": 0.02, "ppl": math.exp(nelbo), "c_t": c_t}
        lines.append(common | {"kind": "eval", "bits_per_byte": nelbo / 3} | bound)
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def level(percent: int, ratio: float | None, seeds: int) -> dict[str, Any]:
    """A level as in comparison.json; with one seed or unreached it has no interval."""
    low, high = (ratio * 0.9, ratio * 1.1) if ratio and seeds > 1 else (None, None)
    return {
        "percent": percent,
        "nelbo": 6.0 - percent / 100,
        **{"steps_ratio": ratio, "ci_low": low, "ci_high": high},
        **{"seconds_ratio": ratio, "seconds_ci_low": low, "seconds_ci_high": high},
        **{"reached": ratio is not None, "seeds_reached": seeds if ratio else 0},
    }


@pytest.fixture
def comparison(tmp_path: Path) -> Callable[..., Path]:
    """Make the folder of a comparison; arms are (name, speed, last ratio)."""

    def make(seeds: int = 2, states: dict[tuple[str, int], str] | None = None) -> Path:
        folder = tmp_path / "cmp"
        arms = [("standard", 1.0, 1.0), (LONG, 2.0, None), (NASTY, 1.5, 1.5), ("ar", 3.0, 3.0)]
        recipes, times = [], {}
        for name, speed, last in arms:
            place = re.sub(r"[^A-Za-z0-9.=,-]+", "_", name)
            runs = []
            for seed in range(seeds):
                state = (states or {}).get((name, seed), "done")
                runs.append({"seed": seed, "state": state})
                if state != "waiting":
                    end = 200 if state == "done" else 100
                    run = folder / place / f"seed-{seed}"
                    write_lines(run, speed, seed=seed, causal=name == "ar", last=end)
            samples = {"step": 200, "texts": [SAMPLE, f"second text of {name}"]}
            if runs[0]["state"] == "done":
                (folder / place / "seed-0" / "samples.json").write_text(json.dumps(samples))
            difference = {"value": 0.001, "ci_low": None, "ci_high": None}
            if seeds > 1:
                difference |= {"ci_low": -0.1, "ci_high": 0.102}
            recipes.append(
                {
                    "name": name,
                    "recipe": f"{name.split('+')[0]}:time=uniform,weight=1/t",
                    "folder": place,
                    "causal": name == "ar",
                    "runs": runs,
                    "levels": [
                        level(p, speed if p < 100 else last, seeds) for p in (25, 50, 75, 100)
                    ],
                    "final_nelbo": 4.5678,
                    "final_stderr": 0.0123,
                    "final_difference": difference | {"evaluation_stderr": 0.01},
                }
            )
            grid = [(k + 0.5) / 200 for k in range(200)]
            flat = {"t": grid, "density": [1.0] * 200, "histogram": [1.0] * 40}
            times[name] = None if name == "ar" else flat
        summary = {
            "baseline": "standard",
            "seeds": list(range(seeds)),
            "recipes": recipes,
            "machine": {"system": "Linux-test", "cores": 2, "gpu": None},
            "versions": {"python": "3.11.7", "torch": "2.13.0"},
        }
        (folder / "comparison.json").write_text(json.dumps(summary))
        (folder / "times.json").write_text(json.dumps(times))
        return folder

    return make
