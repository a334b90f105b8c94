"""``unmask evaluate tasks``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field

from unmask.cli.base import RunArguments, open_on_device, print_json, run_folder
from unmask.cli.options import parse, says_flags


class TasksArguments(RunArguments):
    """Run tasks of EleutherAI's lm-eval on a run.

    Example: unmask evaluate tasks runs/a arc_easy,piqa --limit 200
    """

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

    found = run_tasks(
        open_on_device(asked.run, asked),
        [name.strip() for name in asked.tasks.split(",") if name.strip()],
        include_path=asked.include_path,
        limit=asked.limit,
        draws=asked.draws,
        seed=asked.seed,
        batch_size=asked.batch_size,
        num_fewshot=asked.num_fewshot,
    )
    if asked.as_json:
        print_json(found)
    else:
        PlainConsole().print(tasks_table(found))
    return 0
