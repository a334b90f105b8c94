"""``unmask analyze learnability``: what is left to learn at each mask rate, and what teaches it."""

import json
import math
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from unmask.analyze.learnability.chosen import Chosen, choose, open_comparison, open_data
from unmask.analyze.learnability.conclusions import learnability_conclusion
from unmask.analyze.learnability.curve import bin_edges
from unmask.analyze.learnability.curves import curves_record
from unmask.analyze.learnability.gradients import GROUPS, WEIGHTS, Signal, gradient_signal
from unmask.analyze.learnability.options import Budget
from unmask.analyze.learnability.page import write_learnability
from unmask.analyze.learnability.transfer import Start, Transfer, mean_and_stderr, transfer_matrix
from unmask.base.errors import UserError
from unmask.base.files import write_whole
from unmask.data import Data
from unmask.run import Run, open_run
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
) -> dict[str, Any]:
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
    data = open_data(chosen[0].folder, console)
    started = perf_counter()
    gradients, transfers = [], []
    with _progress(chosen, budget, console) as (sampled, stepped):
        for one in chosen:
            for step in one.steps:
                run = open_run(one.folder, str(step))
                run.model.load_state_dict(run.checkpoint.tensors("model"))  # not the average
                run.model.to(where)
                names = {"recipe": one.arm.name, "index": one.arm.index, "seed": one.seed}
                names |= {"step": step}
                gradients.append(names | _gradients(run, data, budget, sampled))
                transfers.append(names | _transfer(run, data, budget, rate, stepped))
    record: dict[str, Any] = {
        "kind": "learnability",
        "comparison": folder.name,
        "corpus": comparison.corpus,
        "curves": curves,
        "gradients": gradients,
        "transfer": transfers,
        "checkpoints": [
            {"recipe": c.arm.name, "seed": c.seed, "kept": c.kept, "used": c.steps} for c in chosen
        ],
        "budget": budget.model_dump(),
        "seconds": round(perf_counter() - started, 1),
        "machine": {
            "system": platform.platform(),
            "device": str(where),
            "threads": torch.get_num_threads(),
        },
        "versions": {"python": platform.python_version(), "torch": str(torch.__version__)},
    }
    record["conclusion"] = learnability_conclusion(record)
    write_whole(out / RECORD, json.dumps(record, indent=1, allow_nan=False).encode())
    write_learnability(out / RECORD)
    return record


def _gradients(
    run: Run, data: Data, budget: Budget, on_sample: Callable[[], None]
) -> dict[str, Any]:
    edges = bin_edges(budget.bins)
    found = [
        gradient_signal(
            run.model,
            data.train,
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
        weight: {group: _signals([bin[weight][group] for bin in found]) for group in GROUPS}
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
) -> dict[str, Any]:
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
        data.train,
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
    return {"rows": ranges, "learning_rate": used, **_changes(found)}


def _changes(found: Transfer) -> dict[str, Any]:
    mean, error = mean_and_stderr(found.change)
    nelbo, nelbo_error = mean_and_stderr(found.nelbo_change)
    return {
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
