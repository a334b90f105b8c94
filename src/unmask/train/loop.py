"""The training loop: read it from top to bottom.

A step is a function of (config, seed, step): which blocks, which mask rates, which masks all come
from counters. The loop never asks which recipe runs.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from unmask.data.load import Data
from unmask.model.network import Network
from unmask.recipe.recipe import Recipe
from unmask.train.batch import draw_batches
from unmask.train.checkpoint import (
    Progress,
    find_checkpoint,
    last_whole,
    prune,
    save_checkpoint,
)
from unmask.train.config import TrainConfig, ValidationConfig
from unmask.train.device import Stopwatch, autocast, choose_device, peak_flops, products_dtype
from unmask.train.guard import Guard
from unmask.train.metrics import BLOCKS, Jsonl, Sink, forget_after, open_sinks
from unmask.train.optim import build_optimizers, learning_rate
from unmask.train.processes import ALONE, Processes
from unmask.train.progress import TrainingBar
from unmask.train.recent import PENDING, Recent
from unmask.train.sharded import let_go, shard
from unmask.train.signals import stop_on_signals
from unmask.train.state import TrainingState, average_of, restoring
from unmask.train.step import batch_loss, take_step
from unmask.train.validation import validate

TRAINING_FAILED = 3
"""Exit status of a process whose training failed: other than a crash's 1."""


class TrainingFailed(RuntimeError):
    """The loss, a gradient or the validation bound is no longer finite."""


@dataclass(frozen=True)
class Outcome:
    """How training ended: how far it came, and the signal that stopped it early, if one did."""

    progress: Progress
    signal: int | None


def train(  # noqa: PLR0912, PLR0915 - one page, top to bottom, on purpose
    model: Network,
    recipe: Recipe,
    data: Data,
    *,
    config: TrainConfig,
    validation: ValidationConfig,
    seed: int,
    folder: Path,
    console: Console,
    processes: Processes = ALONE,
) -> Outcome:
    """Train a model in a run's folder, from its latest checkpoint if there is one.

    Of several processes each has its share of the samples, and the first one writes.

    Raises:
        TrainingFailed: more than ``config.skip`` gradients in a row are not finite or spikes (the
            first step, its blocks and the last good checkpoint are named), or the loss or the
            validation bound is not finite.
        UserError: the device is not there, or the checkpoint is damaged.
        OSError: the last checkpoint, or what is left of the records, cannot be written. Before the
            end that is told, and tried again.
    """
    device = processes.device(choose_device(config.device))
    model.to(device)
    model.recompute = config.recompute
    average = average_of(model, config.ema)
    if processes.sharded:
        for network in (model,) if average is None else (model, average):
            shard(network, device, products_dtype(device, config.precision))
    loss = batch_loss(model, data.tokenizer.mask_id, compiled=config.compile, processes=processes)
    optimizers = build_optimizers(model, config)
    guard = Guard(config.spike, device)
    state = TrainingState(model, optimizers, average, recipe.observers(device), guard)
    checkpoints = folder / "checkpoints"
    progress = Progress()
    if (checkpoint := find_checkpoint(checkpoints)) is not None:
        state.restore(checkpoint)
        data.train.restore(checkpoint.tensors)
        progress = checkpoint.progress
    sinks, blocks = list[Sink](), list[Sink]()
    if processes.main:
        forget_after(folder, -1 if checkpoint is None else progress.step)
        sinks, blocks = open_sinks(folder, config.log_to), [Jsonl(folder / BLOCKS)]
    mine = processes.share(config.batch_size)
    together = processes.shares(config.batch_size) if processes.sharded else ()
    watch = Stopwatch(device, progress.seconds)
    peak = peak_flops(device, config.precision)
    peak = peak and peak * processes.size
    recent = Recent(device, progress.seconds, skip=config.skip, peak=peak)
    if checkpoint is not None and checkpoint.has(PENDING):
        with restoring(checkpoint, PENDING):
            recent.restore(checkpoint.tensors(PENDING))

    @contextmanager
    def told_if_not_written() -> Iterator[None]:
        try:
            yield
        except OSError as error:  # a full disk may have room again; records wait for it
            console.print(
                f"step {progress.step:>7,}  not written: {error}; training goes on, "
                f"last good checkpoint: {last_whole(checkpoints) or 'none yet'}",
                soft_wrap=True,
            )

    def record(kind: str, values: dict[str, Any]) -> None:
        counters = {"tokens_seen": progress.tokens_seen, "seconds": round(watch.seconds, 4)}
        if progress.flops is not None:
            counters["flops"] = progress.flops
        for sink in sinks:
            with told_if_not_written():
                sink.write({"step": progress.step, "kind": kind, **values, **counters})

    def evaluate() -> Progress:
        with autocast(device, config.precision):
            bound = validate(
                state.evaluated,
                data.valid,
                validation,
                data.tokenizer.mask_id,
                processes=processes,
            )
        let_go(state.evaluated)
        if not math.isfinite(bound.nelbo):
            raise TrainingFailed(
                f"the validation bound is not finite at step {progress.step}; "
                f"last good checkpoint: {last_whole(checkpoints) or 'none yet'}"
            )
        bits = bound.bits_per_byte(data.valid.n_tokens, data.valid.n_bytes)
        bar.evaluated(progress.step, bound, data.valid.coverage.bits(bits))
        record("eval", bound.record() | {"bits_per_byte": bits})
        for sink in blocks:
            with told_if_not_written():
                sink.write({"step": progress.step, **bound.block_record()})
        return replace(progress, nelbo=bound.nelbo)

    patient = processes.size > 1
    with (
        stop_on_signals(patient=patient) as stop,
        TrainingBar(console, config.steps, progress.step) as bar,
        data.train.reading(),
    ):
        if progress.step == 0:
            progress = evaluate()  # where every curve begins
        watch.start()
        stopped = False
        while progress.step < config.steps and not stopped:
            # 1. A step, on the batch that counters give.
            rate = learning_rate(progress.step, config)
            batches = draw_batches(
                recipe,
                data.train,
                config,
                seed=seed,
                step=progress.step,
                device=device,
                observers=state.observers,
                mine=mine,
                together=together,
                self_conditioning=model.self_conditioning,
                opening=model.opening,
            )
            taken = take_step(
                state,
                loss,
                batches,
                config,
                step=progress.step,
                learning_rate=rate,
                processes=processes,
            )

            # 2. Count. The numbers stay on the device until they are due.
            recent.add(progress.step, taken)
            progress = replace(
                progress,
                step=progress.step + 1,
                tokens_seen=progress.tokens_seen + taken.n_tokens,
                nelbo=None,
            )
            bar.step(progress.step)
            stopped = processes.highest(stop[0] if stop else 0) > 0
            last = progress.step == config.steps
            log = last or progress.step % config.log_every == 0
            due = last or progress.step % validation.every == 0
            save = stopped or last or progress.step % (config.save_every or validation.every) == 0
            if not (log or due or save):
                continue

            # 3. Log, evaluate, save: none of it counts as training time.
            progress = replace(progress, seconds=watch.stop())
            flops = recent.flops(model, data.valid.block_size)
            if progress.flops is not None:
                progress = replace(progress, flops=progress.flops + flops)
            if (bad := recent.failed()) is not None:
                raise _failure(bad, data, seed, config.batch_size, checkpoints)
            if log:
                summary = recent.summary(watch.seconds)
                bar.training(summary)
                record("train", {**summary, "learning_rate": rate, "phase": taken.phase})
            if due:
                progress = evaluate()
            position = data.train.position(processes.gather) if save else {}
            if save and (processes.main or processes.sharded):
                with nullcontext() if stopped or last else told_if_not_written():
                    files = state.files() | recent.files() | position
                    save_checkpoint(checkpoints, progress, files, processes)
                    if processes.main:
                        prune(checkpoints, config.keep)
            watch.start()
    for sink in (*sinks, *blocks):
        sink.close()
    return Outcome(progress, processes.highest(stop[0] if stop else 0) or None)


def _failure(
    step: int, data: Data, seed: int, batch_size: int, checkpoints: Path
) -> TrainingFailed:
    """Say which step went wrong, on which blocks (counters tell), and what to go back to."""
    good = last_whole(checkpoints)
    return TrainingFailed(
        f"the loss or a gradient is not finite, or a spike, at step {step} "
        f"({data.train.named(seed, step, batch_size)}); "
        f"last good checkpoint: {good or 'none yet'}; "
        "a lower train.learning_rate or a longer train.warmup_steps may help"
    )
