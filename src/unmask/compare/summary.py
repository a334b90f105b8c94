"""From the records of the runs to ``comparison.json``: speed-ups, final bounds, intervals."""

import json
import os
import platform
from pathlib import Path
from typing import Any

import torch

from unmask.base.files import write_whole
from unmask.compare.launch import Trial
from unmask.compare.statistics import (
    Curve,
    Ratio,
    mean_and_half_width,
    paired_difference,
    speed_up,
)
from unmask.recipe import parse_recipe
from unmask.train.metrics import BLOCKS, read_records

LEVELS = (25, 50, 75, 100)


def summarise(trials: list[Trial]) -> dict[str, Any]:
    """Compare every arm with the first, from the records on disk.

    A seed counts for an arm where both its run and the baseline's are done.

    Returns:
        What ``comparison.json`` holds; all ratios are baseline over recipe, so more is faster.
    """
    arms = list(dict.fromkeys(t.arm.name for t in trials))
    done = {(t.arm.name, t.seed): t for t in trials if t.state == "done"}
    seeds = sorted({t.seed for t in trials})
    recipes = []
    for arm in arms:
        mine = [t for t in trials if t.arm.name == arm]
        pairs = [(done[arms[0], s], done[arm, s]) for s in seeds
                 if (arms[0], s) in done and (arm, s) in done]  # fmt: skip
        recipes.append(
            {
                "name": arm,
                "recipe": mine[0].config.recipe,
                "folder": mine[0].arm.folder,
                "group": parse_recipe(mine[0].config.recipe).group,
                "causal": parse_recipe(mine[0].config.recipe).causal,
                "runs": [{"seed": t.seed, "state": t.state} for t in mine],
                **_against_baseline(pairs),
            }
        )
    return {
        "baseline": arms[0],
        "seeds": seeds,
        "recipes": recipes,
        **environment(),
    }


def environment() -> dict[str, Any]:
    """What the numbers were made on: ``machine`` and ``versions``."""
    return {
        "machine": {
            "system": platform.platform(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "versions": {"python": platform.python_version(), "torch": str(torch.__version__)},
    }


def save_summary(summary: dict[str, Any], folder: Path) -> Path:
    """Write ``comparison.json``."""
    path = folder / "comparison.json"
    write_whole(path, json.dumps(summary, indent=2, allow_nan=False).encode())
    return path


def curve_of(trial: Trial) -> Curve:
    """The learning curve of a run."""
    evals = [r for r in read_records(trial.folder / "metrics.jsonl") if r["kind"] == "eval"]
    return Curve(*([r[key] for r in evals] for key in ("step", "seconds", "nelbo")))


def _against_baseline(pairs: list[tuple[Trial, Trial]]) -> dict[str, Any]:
    """Levels and final bound of an arm over the seeds where it and the baseline are done."""
    if not pairs:
        return {"levels": [], "final_nelbo": None, "final_stderr": None, "final_difference": None}
    baseline, mine = ([curve_of(pair[side]) for pair in pairs] for side in (0, 1))
    levels = []
    for percent in LEVELS:
        nelbo, steps, seconds = speed_up(baseline, mine, percent)
        levels.append(
            {
                "percent": percent,
                "nelbo": nelbo,
                "steps_ratio": steps.value,
                "seconds_ratio": seconds.value,
                **_interval(steps),
                "seconds_ci_low": seconds.low,
                "seconds_ci_high": seconds.high,
                "reached": steps.value is not None,
                "seeds_reached": steps.reached,
            }
        )
    finals = [_last_eval(pair[1]) for pair in pairs]
    return {
        "levels": levels,
        "final_nelbo": sum(r["nelbo"] for r in finals) / len(finals),
        "final_stderr": sum(r["stderr"] for r in finals) / len(finals),
        "final_difference": _difference(pairs),
    }


def _interval(ratio: Ratio) -> dict[str, float | None]:
    return {"ci_low": ratio.low, "ci_high": ratio.high}


def _last_eval(trial: Trial) -> dict[str, Any]:
    return [r for r in read_records(trial.folder / "metrics.jsonl") if r["kind"] == "eval"][-1]


def _difference(pairs: list[tuple[Trial, Trial]]) -> dict[str, float | None]:
    """Final bound of the arm less the baseline's, paired by seed and by validation block.

    ``evaluation_stderr`` is what the choice of blocks leaves uncertain; the interval is over seeds.
    """
    values, errors = [], []
    for baseline, mine in pairs:
        a, b = (read_records(t.folder / BLOCKS)[-1] for t in (mine, baseline))
        value, error = paired_difference(a["nats"], b["nats"], a["tokens"])
        values.append(value)
        errors.append(error)
    mean, half = mean_and_half_width(values)
    return {
        "value": mean,
        "ci_low": None if half is None else mean - half,
        "ci_high": None if half is None else mean + half,
        "evaluation_stderr": sum(errors) / len(errors),
    }
