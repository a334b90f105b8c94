"""How many steps a comparison can take in some minutes on the machine that it meets."""

import signal
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

import torch
from rich.console import Console

from unmask.base.errors import UserError
from unmask.compare.launch import threads_each
from unmask.config import Config, load_config, with_options
from unmask.data.load import load_data
from unmask.recipe.parse import parse_recipe
from unmask.run import build_model
from unmask.train.batch import draw_batches
from unmask.train.device import Stopwatch, autocast, choose_device
from unmask.train.optim import build_optimizers, learning_rate
from unmask.train.state import TrainingState, average_of
from unmask.train.step import batch_loss, take_step
from unmask.train.validation import validate

_POINTS = 20  # evaluations of a run, beside that of its start
_MOST_EVALUATED = 0.25  # of a run's time
_FEWEST_STEPS = 20
_WARM_UP = 2  # steps that are not timed
_TIMED = 3.0  # seconds of steps
_FEWEST_TIMED = 3


@dataclass(frozen=True)
class Cost:
    """Seconds that a run takes to start, for a step and for an evaluation."""

    start: float
    step: float
    evaluation: float


def check_same_steps(arms: dict[str, Config]) -> None:
    """Make sure that the arms can have the steps that some minutes have room for.

    Raises:
        UserError: one has steps of its own.
    """
    if len({config.train.steps for config in arms.values()}) > 1:
        raise UserError("minutes: it sets train.steps, so no recipe can have steps of its own")


def arms_within(
    minutes: float, arms: dict[str, Config], seeds: int, folder: Path, jobs: int, console: Console
) -> dict[str, Config]:
    """The arms with as many steps as let all their runs take about ``minutes`` here.

    Runs that are in the comparison's folder already keep their steps, and others follow them.

    Args:
        minutes: of all runs together, ``jobs`` at once.
        arms: configurations by name, the baseline first; a step of the baseline is timed.
        seeds: runs of each arm.
        folder: the comparison's.
    """
    started = sorted(folder.glob("*/seed-*/config.yaml"))
    if started:
        there = load_config(started[0])
        steps, every = there.train.steps, there.validation.every
        console.print(f"{steps:,} steps, as the runs that are there")
    else:
        runs = len(arms) * seeds
        cost = _measure(next(iter(arms.values())), min(jobs, runs))
        turns = -(-runs // jobs)
        steps, every = steps_within(60 * minutes / turns, cost)
        evaluations = 1 + steps // every
        whole = turns * (cost.start + evaluations * cost.evaluation + steps * cost.step) / 60
        console.print(
            f"{steps:,} steps for each run: one takes {1000 * cost.step:,.0f} ms here, so all of "
            f"it about {whole:.1f} minutes",
            soft_wrap=True,
        )
    fixed = {"train.steps": steps, "validation.every": every}
    return {name: with_options(config, fixed) for name, config in arms.items()}


def steps_within(seconds: float, cost: Cost) -> tuple[int, int]:
    """The steps that a run can take in a time, and the steps between its evaluations.

    About 20 evaluations, fewer where they would take more than a quarter of the time; at least 20
    steps, however short the time is.
    """
    left = seconds - cost.start
    points = int(_MOST_EVALUATED * left / cost.evaluation) - 1  # one more is at the start
    points = max(1, min(_POINTS, points))
    every = int((left - (points + 1) * cost.evaluation) / cost.step / points)
    every = max(every, _FEWEST_STEPS // points)
    return points * every, every


def _measure(config: Config, jobs: int) -> Cost:
    """Time a run's parts in so many processes at once, each with its share of the cores."""
    started = perf_counter()
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_leave_signals) as pool:
        found = list(pool.map(_time_parts, [config] * jobs, [threads_each(jobs)] * jobs))
    whole = perf_counter() - started
    step, evaluation, timed = (max(values) for values in zip(*found, strict=True))
    return Cost(max(whole - timed, 0.0), step, evaluation)


def _leave_signals() -> None:
    """The process that waits for this one says what an interrupt means."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _time_parts(config: Config, threads: int) -> tuple[float, float, float]:
    """Seconds for a step and for an evaluation, and those that finding them out took."""
    torch.set_num_threads(threads)
    data, recipe, train = load_data(config.corpus), parse_recipe(config.recipe), config.train
    device = choose_device(train.device)
    model = build_model(config, data.tokenizer).to(device)
    loss = batch_loss(model, data.tokenizer.mask_id, compiled=train.compile)
    observers = recipe.observers(device)
    state = TrainingState(
        model, build_optimizers(model, train), average_of(model, train.ema), observers
    )
    begun = perf_counter()

    def step(number: int) -> None:
        batches = draw_batches(
            recipe,
            data.train,
            train,
            seed=config.seed,
            step=number,
            device=device,
            observers=observers,
            self_conditioning=model.self_conditioning,
            opening=model.opening,
        )
        rate = learning_rate(number, train)
        take_step(state, loss, batches, train, step=number, learning_rate=rate)

    first = train.steps // 2  # a recipe's main part, where its beginning is another
    for number in range(_WARM_UP):
        step(first + number)
    watch, taken = Stopwatch(device), 0
    while watch.seconds < _TIMED or taken < _FEWEST_TIMED:
        watch.start()
        step(first + _WARM_UP + taken)
        watch.stop()
        taken += 1

    once = config.validation.model_copy(update={"draws": 1})
    one_pass = Stopwatch(device)
    one_pass.start()
    with autocast(device, train.precision):
        validate(state.evaluated, data.valid, once, data.tokenizer.mask_id)
    passes = 1 if model.causal else config.validation.draws
    return watch.seconds / taken, passes * one_pass.stop(), perf_counter() - begun
