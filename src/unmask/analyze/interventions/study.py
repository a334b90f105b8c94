"""``unmask analyze interventions``: the same comparison with and without locality.

DIR/<transform>/         a comparison for each transform, as ``unmask compare`` leaves it
DIR/interventions.json   what changes between them
DIR/index.html           the page

The autoregressive twin on permuted positions is the twin with a fixed random order: a block's
likelihood does not depend on how its tokens are listed, so its bound stands beside all others.
"""

import json
import platform
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.text import Text

from unmask.analyze.interventions.effects import common_seeds, effects, final, spread
from unmask.analyze.interventions.page import write_interventions
from unmask.analyze.learnability.conclusions import interventions_conclusion
from unmask.base.errors import UserError, unknown
from unmask.base.files import write_whole
from unmask.compare import compare, parse_arms
from unmask.compare.records import Arm, Comparison, load_comparison
from unmask.compare.report import write_report
from unmask.config import Config, with_options
from unmask.data import load_data
from unmask.data.transforms import TRANSFORMS
from unmask.recipe import parse_recipe

RECORD = "interventions.json"


def interventions(
    config: Config,
    folder: Path,
    out: Path,
    *,
    recipes: str,
    transform: str,
    seeds: int,
    jobs: int,
    console: Console,
) -> dict[str, Any]:
    """Train both comparisons (finished runs are used again), measure, and write records and page.

    Args:
        config: what the arms share; its own transform is that of the first comparison.
        folder: of both comparisons.
        out: where the record and the page go.
        recipes: as of ``unmask compare``: the baseline, which masks, first; an autoregressive twin
            among the others.
        transform: of the second comparison.

    Raises:
        UserError: before any work, for whatever is wrong with the request.
        Interrupted: a signal came; repeat the call to go on.
    """
    plans = _plans(config, recipes, transform)
    comparisons = {}
    for name, arms in plans.items():
        console.print(Text(f"transform {name}", "bold"))
        compare(arms, seeds, folder / name, jobs=jobs, console=console)
        write_report(folder / name)
        comparisons[name] = load_comparison(folder / name)
    before, after = comparisons.values()
    done = common_seeds(before, after)
    if not done:
        raise UserError(
            f"no seed has every run done under {folder}: see the .log files beside the runs, and "
            "repeat the command to go on"
        )
    record: dict[str, Any] = {
        "kind": "interventions",
        "transforms": list(plans),
        "seeds": done,
        "corpus": before.corpus,
        "unigram": load_data(config.corpus).valid.unigram_entropy(),
        "settings": [
            {"transform": name, "recipes": [_arm(arm, done) for arm in comparison.arms]}
            for name, comparison in comparisons.items()
        ],
        "effects": effects(before, after),
        "other_order": _other_order(before, after, done),
        "machine": before.machine,
        "versions": {"python": platform.python_version(), "torch": str(torch.__version__)},
    }
    record["conclusion"] = interventions_conclusion(record)
    write_whole(out / RECORD, json.dumps(record, indent=1, allow_nan=False).encode())
    write_interventions(out / RECORD)
    return record


def _plans(config: Config, recipes: str, transform: str) -> dict[str, list[Any]]:
    """The arms of both comparisons by their transform, checked."""
    if transform not in TRANSFORMS:
        raise unknown("transform", transform, TRANSFORMS)
    first = config.corpus.transform
    if transform == first:
        raise UserError(
            f"--intervention {transform} is what the first comparison has already "
            f"(--corpus.transform {first}); they must differ"
        )
    plans = {
        name: parse_arms(recipes, with_options(config, {"corpus.transform": name}))
        for name in (first, transform)
    }
    causal = [parse_recipe(arm.config.recipe).causal for arm in plans[first]]
    if causal[0] or not any(causal):
        raise UserError(
            f"--recipes {recipes!r} must begin with a recipe that masks and hold an autoregressive "
            "twin: standard,bell,ar"
        )
    return plans


def _arm(arm: Arm, seeds: list[int]) -> dict[str, Any]:
    """A recipe's curves and last bounds; steps that all seeds share."""
    runs = [run for run in arm.done if run.seed in seeds]
    steps = [r["step"] for r in runs[0].evals]
    return {
        "name": arm.name,
        "index": arm.index,
        "causal": arm.causal,
        "steps": steps,
        "nelbo": [[float(r["nelbo"]) for r in run.evals] for run in runs],
        "final": spread([final(arm, seed) for seed in seeds]),
    }


def _other_order(before: Comparison, after: Comparison, seeds: list[int]) -> list[dict[str, Any]]:
    """Each twin in the second comparison's order against the first comparison's baseline."""
    return [
        {
            "recipe": arm.name,
            "difference": spread(
                [final(arm, seed) - final(before.baseline, seed) for seed in seeds]
            ),
        }
        for arm in after.arms
        if arm.causal
    ]
