"""The whole of ``unmask compare``: plan, train, summarise."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from unmask.base.errors import UserError
from unmask.base.files import write_whole
from unmask.compare.arms import Arm
from unmask.compare.launch import Trial, train_all
from unmask.compare.options import QualityOptions
from unmask.compare.quality import check_quality, measure_quality
from unmask.compare.summary import LEVELS, save_summary, summarise
from unmask.compare.times import all_times
from unmask.config import differences
from unmask.data import load_data
from unmask.recipe import is_auto
from unmask.run import check_continuable, open_run, settle_recipe
from unmask.sample import sample

SHARED = ("corpus.", "validation.", "seed")
"""What the arms of a comparison may not differ in."""


def compare(
    arms: list[Arm],
    seeds: int,
    folder: Path,
    *,
    jobs: int,
    console: Console,
    quality: QualityOptions | None = None,
) -> dict[str, Any]:
    """Train every arm with every seed and compare them with the first.

    Within a seed all arms share the initial weights, the data order and the evaluation noise.
    Runs that are finished are used, interrupted ones go on.

    Args:
        arms: the baseline first.
        seeds: how many; they are 0, 1, ...
        folder: runs go to ``folder/<arm>/seed-<s>``.
        jobs: how many runs at once.
        quality: what is measured at the kept checkpoints afterwards; None: nothing.

    Returns:
        The content of ``folder/comparison.json``.

    Raises:
        UserError: the arms are not comparable, or the folder holds another comparison's runs.
        Interrupted: a signal came; repeat the call to go on.
    """
    _check_comparable(arms)
    judge = None if quality is None else check_quality(quality)
    if any(is_auto(arm.config.recipe) for arm in arms):
        data = load_data(arms[0].config.corpus, console=console)
        arms = [Arm(arm.name, settle_recipe(arm.config, data, console)) for arm in arms]
    trials = [
        Trial(arm, seed, folder / arm.folder / f"seed-{seed}")
        for seed in range(seeds)
        for arm in arms
    ]
    _check_folders(trials)
    load_data(arms[0].config.corpus, console=console)  # told what is wrong, and cached for all
    train_all(trials, jobs, console)
    for trial in trials:
        if trial.seed == 0 and trial.state == "done":
            _save_samples(trial)
    times = all_times({arm.name: arm.config for arm in arms})
    write_whole(folder / "times.json", json.dumps(times).encode())
    summary = summarise(trials)
    save_summary(summary, folder)
    if quality is not None:
        measure_quality(trials, quality, judge, console)
    return summary


def _check_comparable(arms: list[Arm]) -> None:
    for arm in arms[1:]:
        changed = [key for key in differences(arms[0].config, arm.config) if key.startswith(SHARED)]
        if changed:
            raise UserError(
                f"--recipes {arm.name!r} changes {', '.join(changed)}: the arms of a comparison "
                "share corpus, validation and seeds; they may differ in recipe, train.* and model.*"
            )


def _check_folders(trials: list[Trial]) -> None:
    for trial in trials:
        if (trial.folder / "config.yaml").is_file():
            check_continuable(trial.config, trial.folder)


def _save_samples(trial: Trial) -> None:
    """Keep two texts of a run beside it, for the report."""
    path = trial.folder / "samples.json"
    run = open_run(trial.folder)
    length = min(256, run.config.corpus.block_size)
    texts = sample(run, num=2, length=length, steps=length)
    write_whole(path, json.dumps({"step": run.checkpoint.progress.step, "texts": texts}).encode())


def summary_table(summary: dict[str, Any]) -> Table:
    """The speed-ups as a table for the terminal."""
    n = len(summary["seeds"])
    spread = f"{n} seeds, 95% interval" if n > 1 else "one seed: no interval"
    table = Table(
        title=f"speed-up over {summary['baseline']} at the NELBO it has at ...% of its steps; "
        f"{spread}",
        title_justify="left",
    )
    table.add_column("recipe", overflow="fold", min_width=9)
    for percent in LEVELS:
        table.add_column(f"{percent}%", justify="right", no_wrap=percent < 100)
    for heading in ("in seconds", "final NELBO", "difference"):
        table.add_column(heading, justify="right")
    for recipe in summary["recipes"]:
        if not recipe["levels"]:
            states = ", ".join(f"seed {r['seed']} {r['state']}" for r in recipe["runs"])
            table.add_row(_in_lines(recipe["name"]), *[""] * len(LEVELS), "", states, "")
            continue
        *lower, last = recipe["levels"]
        table.add_row(
            _in_lines(recipe["name"]),
            *(_ratio(level["steps_ratio"]) for level in lower),
            _ratio(last["steps_ratio"], last["ci_low"], last["ci_high"]),
            _ratio(last["seconds_ratio"], last["seconds_ci_low"], last["seconds_ci_high"]),
            f"{recipe['final_nelbo']:.4f}\n± {recipe['final_stderr']:.4f}",
            "" if recipe["name"] == summary["baseline"] else difference_text(recipe),
        )
    return table


def difference_text(recipe: dict[str, Any]) -> str:
    """The final difference with its interval, and a word where evaluation noise hides it."""
    difference = recipe["final_difference"]
    text = f"{difference['value']:+.4f}"
    if difference["ci_low"] is not None:
        text += f"\n[{difference['ci_low']:+.4f}, {difference['ci_high']:+.4f}]"
    if abs(difference["value"]) < 2 * difference["evaluation_stderr"]:
        text += "\nwithin evaluation noise"
    return text


def _in_lines(arm: str) -> str:
    """An arm's name with each of its options on a line of its own."""
    return arm.replace("+", "\n+")


def _ratio(value: float | None, low: float | None = None, high: float | None = None) -> str:
    if value is None:
        return "not reached"
    return f"{value:.2f}x" if low is None else f"{value:.2f}x\n[{low:.2f}, {high:.2f}]"
