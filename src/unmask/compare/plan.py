"""The whole of ``unmask compare``: plan, train, summarise."""

import json
from pathlib import Path

from rich.console import Console

from unmask.base.environment import environment
from unmask.base.errors import UserError
from unmask.base.files import write_whole
from unmask.compare.arms import folder_name
from unmask.compare.duration import arms_within, check_same_steps
from unmask.compare.launch import Trial, train_all
from unmask.compare.options import QualityOptions
from unmask.compare.quality import check_quality, measure_quality
from unmask.compare.records import COMPARISON, PLAN, SAMPLES, Comparison, load_comparison
from unmask.compare.tables import summary
from unmask.config import Config, differences, with_options
from unmask.data.load import load_data
from unmask.recipe.parse import is_auto
from unmask.run import check_continuable, open_run, settle_recipe
from unmask.sample import SamplerOptions, sample

SHARED = ("corpus.", "validation.", "seed")
"""What the arms of a comparison may not differ in."""


def compare(
    arms: dict[str, Config],
    seeds: int,
    folder: Path,
    *,
    jobs: int,
    console: Console,
    quality: QualityOptions | None = None,
    minutes: float | None = None,
) -> Comparison:
    """Train every arm with every seed and compare them with the first.

    Within a seed all arms share the initial weights, the data order and the evaluation noise.
    Runs that are finished are used, interrupted ones go on.

    Args:
        arms: configurations by name, the baseline first.
        seeds: how many; they are 0, 1, ...
        folder: runs go to ``folder/<arm>/seed-<s>``.
        jobs: how many runs at once.
        quality: what is measured at the kept checkpoints afterwards; None: nothing.
        minutes: about how long all runs may take here, which sets their steps; None: the steps of
            the arms.

    Returns:
        What came of it; ``folder/comparison.json`` says the same to other programs.

    Raises:
        UserError: the arms are not comparable, or have steps of their own although ``minutes``
            sets them, or the folder holds another comparison's runs.
        Interrupted: a signal came; repeat the call to go on.
    """
    _check_comparable(arms)
    if minutes is not None:
        check_same_steps(arms)
    judge = None if quality is None else check_quality(quality)
    corpus = next(iter(arms.values())).corpus
    if minutes is not None or any(is_auto(config.recipe) for config in arms.values()):
        data = load_data(corpus, console=console)
        arms = {name: settle_recipe(config, data, console) for name, config in arms.items()}
    if minutes is not None:
        arms = arms_within(minutes, arms, seeds, folder, jobs, console)
    trials = [
        Trial(
            name, with_options(config, {"seed": seed}), folder / folder_name(name) / f"seed-{seed}"
        )
        for seed in range(seeds)
        for name, config in arms.items()
    ]
    for trial in trials:
        if (trial.folder / "config.yaml").is_file():
            check_continuable(trial.config, trial.folder)
    load_data(corpus, console=console)  # told what is wrong, and cached for all
    _save_plan(folder, trials)
    train_all(trials, jobs, console)
    _save_plan(folder, trials)
    for trial in trials:
        if trial.config.seed == 0 and trial.state == "done":
            _save_samples(trial)
    comparison = load_comparison(folder)
    text = json.dumps(summary(comparison), indent=2, allow_nan=False)
    write_whole(folder / COMPARISON, text.encode())
    if quality is not None:
        measure_quality(trials, quality, judge, console)
        comparison = load_comparison(folder)
    return comparison


def _save_plan(folder: Path, trials: list[Trial]) -> None:
    """Write what no run's folder tells; the states are of use where a run is not done."""
    names = list(dict.fromkeys(trial.arm for trial in trials))
    plan = {
        "baseline": names[0],
        "seeds": sorted({trial.config.seed for trial in trials}),
        "recipes": [
            {
                "name": name,
                "folder": folder_name(name),
                "runs": [
                    {"seed": trial.config.seed, "state": trial.state}
                    for trial in trials
                    if trial.arm == name
                ],
            }
            for name in names
        ],
        **environment(),
    }
    write_whole(folder / PLAN, json.dumps(plan, indent=2).encode())


def _check_comparable(arms: dict[str, Config]) -> None:
    first = next(iter(arms.values()))
    for name, config in arms.items():
        changed = [key for key in differences(first, config) if key.startswith(SHARED)]
        if changed:
            raise UserError(
                f"recipe {name!r} changes {', '.join(changed)}: the arms of a comparison share "
                "corpus, validation and seeds; they may differ in recipe, train.* and model.*"
            )


def _save_samples(trial: Trial) -> None:
    """Keep two texts of a run beside it, for the report."""
    run = open_run(trial.folder)
    length = min(256, run.config.corpus.block_size)
    texts = sample(run, num=2, length=length, options=SamplerOptions(steps=length))
    write_whole(
        trial.folder / SAMPLES,
        json.dumps({"step": run.checkpoint.progress.step, "texts": texts}).encode(),
    )
