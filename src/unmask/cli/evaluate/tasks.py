"""``unmask evaluate tasks``."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field

from unmask.cli.base import ModelOptions, run_folder
from unmask.cli.options import parse, says_flags
from unmask.cli.output import print_result


class TasksArguments(ModelOptions):
    """Run tasks of EleutherAI's lm-eval on a run.

    Example: unmask evaluate tasks runs/a arc_easy,piqa --limit 200
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")] = Field(
        description="folder of the run"
    )
    tasks: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME,NAME")] = Field(
        description="the tasks, commas between them"
    )
    include_path: Path | None = Field(None, description="a folder of task YAML files of one's own")
    limit: int | None = Field(None, ge=1, description="at most so many examples of each task")
    num_fewshot: int | None = Field(
        None,
        ge=0,
        description="solved examples before each question; by default what each task says",
    )
    draws: int = Field(16, ge=1, description="masks for each continuation")
    batch_size: int = Field(
        64, ge=1, description="sequences per forward pass; changes the speed alone"
    )


@says_flags(TasksArguments)
def tasks_command(arguments: Sequence[str]) -> int:
    """Run ``unmask evaluate tasks``."""
    asked = parse(TasksArguments, "unmask evaluate tasks", arguments)
    run_folder(asked.run)
    from unmask.base.console import PlainConsole
    from unmask.evaluate.lm_eval import run_tasks, tasks_table
    from unmask.run import open_run
    from unmask.train.device import choose_device

    device = choose_device(asked.device)
    run = open_run(asked.run, asked.checkpoint)
    run.model.to(device)
    found = run_tasks(
        run,
        [name.strip() for name in asked.tasks.split(",") if name.strip()],
        include_path=asked.include_path,
        limit=asked.limit,
        draws=asked.draws,
        seed=asked.seed,
        batch_size=asked.batch_size,
        num_fewshot=asked.num_fewshot,
    )
    if asked.as_json:
        print_result(json.dumps(found, allow_nan=False))
    else:
        PlainConsole().print(tasks_table(found))
    return 0
