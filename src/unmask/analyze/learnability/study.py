"""``unmask analyze learnability``: what is left to learn at each mask rate, and what teaches it."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from unmask.analyze.learnability.curves import curves_record, heaviest_range
from unmask.analyze.learnability.gradients import (
    PARAMETER_GROUPS,
    WEIGHTS,
    Signal,
    gradient_signal,
)
from unmask.analyze.learnability.options import Budget
from unmask.analyze.learnability.plots import all_plots
from unmask.analyze.learnability.transfer import (
    Start,
    bin_edges,
    mean_and_stderr,
    transfer_matrix,
)
from unmask.analyze.page import Record, save_study
from unmask.base.environment import environment
from unmask.base.errors import UserError, unknown
from unmask.base.wording import counted
from unmask.compare.records import Arm, Comparison, RunRecord, load_comparison
from unmask.config import load_config
from unmask.data.load import Data, load_data
from unmask.run import Run, open_run
from unmask.train.checkpoint import checkpoint_steps
from unmask.train.device import choose_device
from unmask.train.optim import learning_rate
from unmask.train.validation import evenly_spaced

RECORD = "learnability.json"


def learnability(
    folder: Path,
    out: Path,
    budget: Budget,
    *,
    recipes: Sequence[str] = (),
    rate: float | None = None,
    device: str = "auto",
    console: Console,
) -> Record:
    """Measure, write ``learnability.json`` and the page to ``out``, and return the record.

    Args:
        folder: a comparison's.
        recipes: names of those whose checkpoints are looked at; none: all that mask.
        rate: learning rate of the transfer's steps; None: that of the checkpoint's last step.
        console: for progress.

    Raises:
        UserError: before any work, for whatever is wrong with the request.
    """
    if rate is not None and not rate >= 0:
        raise UserError(f"learning_rate must be at least 0, not {rate}")
    where = choose_device(device)
    comparison = open_comparison(folder)
    chosen = choose(comparison, recipes, budget.checkpoints)
    curves = curves_record(comparison)
    first = chosen[0].run.folder
    data = load_data(load_config(first / "config.yaml").corpus, console=console, run=first)
    started = perf_counter()
    gradients, transfers = [], []
    with _progress(chosen, budget, console) as (sampled, stepped):
        for one in chosen:
            for step in one.steps:
                run = open_run(one.run.folder, str(step))
                run.model.load_state_dict(run.checkpoint.tensors("model"))  # not the average
                run.model.to(where)
                names = {"recipe": one.arm.name, "index": one.arm.index, "seed": one.run.seed}
                names |= {"step": step}
                gradients.append(names | _gradients(run, data, budget, sampled))
                transfers.append(names | _transfer(run, data, budget, rate, stepped))
    record: Record = {
        "kind": "learnability",
        "comparison": folder.name,
        "corpus": comparison.corpus,
        "curves": curves,
        "gradients": gradients,
        "transfer": transfers,
        "checkpoints": [
            {"recipe": c.arm.name, "seed": c.run.seed, "kept": c.kept, "used": c.steps}
            for c in chosen
        ],
        "budget": budget.model_dump(),
        "seconds": round(perf_counter() - started, 1),
        **environment(),
    }
    record["machine"] |= {"device": str(where), "threads": torch.get_num_threads()}
    record["conclusion"] = conclusion(record)
    save_study(record, out / RECORD, all_plots)
    return record


@dataclass(frozen=True)
class Chosen:
    """A run of a comparison and the checkpoints of it to look at.

    Attributes:
        arm: the recipe.
        run: of one seed.
        kept: steps of all its checkpoints.
        steps: those looked at, increasing; the last kept one is among them.
    """

    arm: Arm
    run: RunRecord
    kept: list[int]
    steps: list[int]


def open_comparison(folder: Path) -> Comparison:
    """Read the records of a comparison of recipes that mask.

    Raises:
        UserError: no comparison, one recipe alone, or none that masks and is done.
    """
    comparison = load_comparison(folder)
    if len(comparison.arms) < 2:
        raise UserError(
            f"{folder} compares nothing: it holds one recipe, {comparison.arms[0].name}; valid: "
            "the folder of an unmask compare of at least two"
        )
    if not any(arm.done and not arm.causal for arm in comparison.arms):
        raise UserError(
            f"{folder} has no finished run of a recipe that masks tokens (an autoregressive twin "
            "has no mask rates); repeat its unmask compare to finish the runs"
        )
    return comparison


def choose(comparison: Comparison, names: Sequence[str], most: int) -> list[Chosen]:
    """The first finished run of each recipe that masks, with checkpoints over its training.

    Args:
        names: the recipes'; none: all that mask.
        most: checkpoints of each, the last one and others evenly spaced among those kept.

    Raises:
        UserError: an unknown recipe, or a run without checkpoints.
    """
    arms = {arm.name: arm for arm in comparison.arms if arm.done and not arm.causal}
    chosen = []
    for name in names or arms:
        if name not in arms:
            raise unknown("finished recipe that masks", name, arms)
        run = arms[name].done[0]
        kept = checkpoint_steps(run.folder / "checkpoints")
        if not kept:
            raise UserError(
                f"{run.folder} has no checkpoints, only records: gradients and transfer need the "
                "weights; repeat its unmask compare in another folder and keep them"
            )
        chosen.append(Chosen(arms[name], run, kept, spaced(kept, most)))
    return chosen


def spaced(kept: list[int], most: int) -> list[int]:
    """At most that many of the steps, evenly spaced in place, the last among them."""
    n = min(most, len(kept))
    return [kept[(k + 1) * len(kept) // n - 1] for k in range(n)]


def _gradients(run: Run, data: Data, budget: Budget, on_sample: Callable[[], None]) -> Record:
    edges = bin_edges(budget.bins)
    found = [
        gradient_signal(
            run.model,
            data.blocks,
            low=low,
            high=high,
            n_blocks=budget.gradient_blocks,
            n_masks=budget.gradient_masks,
            mask_id=run.tokenizer.mask_id,
            on_sample=on_sample,
        )
        for low, high in edges
    ]
    weights = {
        weight: {
            group: _signals([bin[weight][group] for bin in found]) for group in PARAMETER_GROUPS
        }
        for weight in WEIGHTS
    }
    return {"bins": edges, "weights": weights}


def _signals(signals: list[Signal]) -> dict[str, list[float | None]]:
    """The signals of all bins as lists, None where a number is not finite or has no root."""
    moments = [s.moments for s in signals]

    def numbers(values: list[float]) -> list[float | None]:
        return [v if math.isfinite(v) else None for v in values]

    return {
        "squared_norm": numbers([m.squared_mean for m in moments]),
        "squared_norm_stderr": numbers([s.squared_mean_stderr for s in signals]),
        "norm": [m.squared_mean**0.5 if m.squared_mean > 0 else None for m in moments],
        "mask_variance": numbers([m.mask_variance for m in moments]),
        "data_variance": numbers([m.data_variance for m in moments]),
        "snr": numbers([m.snr for m in moments]),
        "snr_stderr": numbers([s.snr_stderr for s in signals]),
    }


def _transfer(
    run: Run, data: Data, budget: Budget, rate: float | None, on_step: Callable[[], None]
) -> Record:
    config, step = run.config.train, run.checkpoint.progress.step
    start = Start(
        run.checkpoint.tensors("model"),
        run.checkpoint.tensors("optimizer"),
        step,
        run.config.seed,
    )
    used = learning_rate(step - 1, config) if rate is None else rate
    ranges = [*bin_edges(budget.bins), (0.0, 1.0)]
    found = transfer_matrix(
        run.model,
        start,
        data.blocks,
        data.valid,
        evenly_spaced(len(data.valid), budget.blocks),
        ranges=ranges,
        bins=budget.bins,
        draws=budget.draws,
        config=config,
        learning_rate=used,
        steps=budget.steps,
        restarts=budget.restarts,
        mask_id=run.tokenizer.mask_id,
        on_step=on_step,
    )
    mean, error = mean_and_stderr(found.change)
    nelbo, nelbo_error = mean_and_stderr(found.nelbo_change)
    return {
        "rows": ranges,
        "learning_rate": used,
        "before": found.before.tolist(),
        "change": mean.tolist(),
        "change_stderr": error.tolist(),
        "nelbo_before": float(found.before.mean()),
        "nelbo_change": nelbo.tolist(),
        "nelbo_change_stderr": nelbo_error.tolist(),
    }


@contextmanager
def _progress(
    chosen: list[Chosen], budget: Budget, console: Console
) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """Two bars, gradients and steps, each advanced by a call of its own."""
    n = sum(len(c.steps) for c in chosen)
    with Progress(
        TextColumn("{task.description:>9}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        samples = budget.bins * budget.gradient_blocks * budget.gradient_masks
        gradients = bar.add_task("gradients", total=n * samples)
        steps = bar.add_task("steps", total=n * (budget.bins + 1) * budget.restarts * budget.steps)
        yield (lambda: bar.advance(gradients)), (lambda: bar.advance(steps))


def conclusion(record: Record) -> list[str]:
    """What is left to learn and where; where the gradient is clear and which rates teach most."""
    curves = record["curves"]
    recipe = max(curves["recipes"], key=lambda r: r["reducible_area"][-1])
    return [_left(recipe, curves), _teachers(record, recipe["name"])]


def _left(recipe: Record, curves: Record) -> str:
    n = len(curves["lowest"])
    parts = recipe["reducible_share"][-1]
    head = f"{recipe['name']} at step {recipe['steps'][-1]:,} has {recipe['nelbo'][-1]:.3f} nats"
    head += f" per token, of which at least {recipe['learnable'][-1]:.3f} are learnable"
    twins = [t for t in curves["causal"] if t["nelbo"] < curves["lowest_area"]]
    if twins:
        twin = min(twins, key=lambda t: float(t["nelbo"]))
        head += f" ({twin['name']} has {twin['nelbo']:.3f})"
    if parts is None:
        return f"{head}; no recipe that masks was lower at any mask rate."
    first, last = heaviest_range(parts, 0.5)
    return (
        f"{head}; of the {recipe['reducible_area'][-1]:.3f} above the lowest c(t) measured, "
        f"{sum(parts[first : last + 1]):.0%} sit at t in [{first / n:g}, {(last + 1) / n:g}]."
    )


def _teachers(record: Record, preferred: str) -> str:
    """From the last checkpoint of the preferred recipe, or of any that was looked at."""
    names = [t["recipe"] for t in record["transfer"]]
    name = preferred if preferred in names else names[-1]
    transfer = [t for t in record["transfer"] if t["recipe"] == name][-1]
    gradient = [g for g in record["gradients"] if g["recipe"] == name][-1]
    signal = gradient["weights"]["flat"]["all"]
    pairs = zip(signal["snr"], signal["snr_stderr"], strict=True)
    # The lower end of each, so that no bin is named for its noise.
    ends = {bin: a - b for bin, (a, b) in enumerate(pairs) if a is not None and b is not None}
    clear = ""
    if ends:
        best = max(ends, key=lambda bin: float(ends[bin]))
        clear = (
            f"the gradient is clearest at t in {_range(gradient['bins'][best])} (signal-to-noise "
            f"{signal['snr'][best]:.3f} ± {signal['snr_stderr'][best]:.3f}); "
        )
    *rows, uniform = transfer["nelbo_change"]
    *errors, uniform_error = transfer["nelbo_change_stderr"]
    row = min(range(len(rows)), key=lambda i: float(rows[i]))
    return (
        f"At step {transfer['step']:,} of {name} {clear}"
        f"{counted(record['budget']['steps'], 'step')} in one bin taught most at t in "
        f"{_range(transfer['rows'][row])}: NELBO {rows[row]:+.4f} ± "
        f"{errors[row]:.4f}, against {uniform:+.4f} ± {uniform_error:.4f} with t uniform."
    )


def _range(edges: list[float]) -> str:
    low, high = edges
    return f"[{low:.3g}, {high:.3g}]"
