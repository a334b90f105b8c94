"""Tasks of EleutherAI's ``lm-eval`` on a run."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from rich.table import Table

from unmask.base.errors import UserError
from unmask.run import Run


def run_tasks(
    run: Run,
    tasks: Sequence[str],
    *,
    include_path: Path | None = None,
    limit: int | None = None,
    draws: int = 16,
    seed: int = 0,
    batch_size: int = 64,
    num_fewshot: int | None = None,
) -> dict[str, Any]:
    """Run tasks by the library's own evaluation, prompts and metrics.

    Args:
        run: an opened run.
        tasks: names that ``lm-eval`` or ``include_path`` knows, groups and tags among them.
        include_path: a folder of task YAML files of one's own.
        limit: at most so many examples of each task; None: all.
        draws: masks for each continuation whose likelihood is asked for.
        seed: of masks and samples.
        batch_size: sequences per forward pass.
        num_fewshot: solved examples before each question; None: what each task says.

    Returns:
        Fit for JSON: ``tasks``: for each task its metrics by name, each a number, with
        ``<name>_stderr`` (over examples; None where there is none); ``examples``: how many of each
        task; ``fewshot``; ``versions`` of the tasks; ``settings``; ``lm_eval``: the library's
        version.

    Raises:
        UserError: ``lm-eval`` is not installed, a task is unknown, or its data cannot be loaded.
    """
    try:
        import lm_eval  # noqa: PLC0415
    except ImportError as error:
        raise UserError(f"tasks need lm-eval ({error}): pip install 'unmask[eval]'") from error
    from unmask.evaluate.lm_eval_model import UnmaskLM  # noqa: PLC0415

    for name, value in (("limit", limit), ("draws", draws), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise UserError(f"{name} must be at least 1, not {value}")
    manager = _task_manager(tasks, include_path)
    model = UnmaskLM(run, draws=draws, seed=seed, batch_size=batch_size)
    try:
        found = lm_eval.simple_evaluate(
            model=model,
            tasks=list(tasks),
            task_manager=manager,
            limit=limit,
            num_fewshot=num_fewshot,
            log_samples=False,
            torch_random_seed=None,  # ours comes from counters
        )
    except OSError as error:  # a data set that is not to be had; the hub's errors are of this kind
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"tasks {','.join(tasks)}: {reason}") from error
    return {
        "tasks": {name: _metrics(values) for name, values in found["results"].items()},
        "examples": {name: n["effective"] for name, n in found["n-samples"].items()},
        "fewshot": dict(found["n-shot"]),
        "versions": dict(found["versions"]),
        "settings": {"draws": draws, "seed": seed, "limit": limit},
        "lm_eval": lm_eval.__version__,
    }


def tasks_table(results: dict[str, Any]) -> Table:
    """A row for each task and metric of what `run_tasks` returns."""
    table = Table(title=f"lm-eval {results['lm_eval']}")
    table.add_column("task")
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("examples", justify="right")
    for name, metrics in results["tasks"].items():
        for metric, value in metrics.items():
            if not metric.endswith("_stderr"):
                error = metrics.get(f"{metric}_stderr")
                shown = f"{value:.4f}" + ("" if error is None else f" ± {error:.4f}")
                table.add_row(name, metric, shown, str(results["examples"].get(name, "")))
    return table


def _task_manager(tasks: Sequence[str], include_path: Path | None) -> Any:
    """Where tasks are found; the library's thousands are only read through if they are needed."""
    from lm_eval.tasks import TaskManager  # noqa: PLC0415

    if not tasks:
        raise UserError("tasks names no task; valid: one or more of lm-eval's or of include_path")
    if include_path is not None:
        if not include_path.is_dir():
            raise UserError(f"include_path {include_path} is not a folder of task YAML files")
        own = TaskManager(include_path=str(include_path), include_defaults=False)
        if set(tasks) <= set(own.all_tasks):
            return own
    manager = TaskManager(include_path=None if include_path is None else str(include_path))
    for name in tasks:
        if name not in manager.all_tasks:
            close = get_close_matches(name, manager.all_tasks, n=3)
            hint = f"did you mean {' or '.join(close)}? " if close else ""
            raise UserError(
                f"unknown task {name!r}; {hint}`lm-eval ls tasks` lists the library's, and "
                "include_path names a folder with your own"
            )
    return manager


def _metrics(values: dict[str, Any]) -> dict[str, float | None]:
    """Metrics by plain names: the library's are ``acc,none`` for a filter that does nothing."""
    metrics = dict[str, float | None]()
    for key, value in values.items():
        name, comma, chosen = key.partition(",")
        if comma:
            base = name.removesuffix("_stderr")
            label = base if chosen == "none" else f"{base} ({chosen})"
            number = float(value) if isinstance(value, int | float) else None
            metrics[label + name.removeprefix(base)] = number
    return metrics
