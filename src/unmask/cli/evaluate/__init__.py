"""``unmask evaluate``: the likelihood of a text, and a file for each other task."""

from collections.abc import Sequence

from unmask.base.errors import UserError, meant, shown
from unmask.base.paths import exists
from unmask.cli.commands import Group

TASKS = Group(
    "unmask evaluate",
    "unmask.cli.evaluate",
    "task",
    "Whole models under test.",
    {
        "suite": "the likelihood of many corpora, a row each",
        "generative": "a run's own texts under another model, with their entropy",
        "tasks": "tasks of EleutherAI's lm-eval",
    },
)

_FORMER = {
    "--suite": "unmask evaluate suite RUN zeroshot|FOLDER",
    "--generative": "unmask evaluate generative RUN",
    "--generate": "unmask evaluate generative RUN",
    "--tasks": "unmask evaluate tasks RUN NAME,NAME",
    "--lm-eval": "unmask evaluate tasks RUN NAME,NAME",
}


def evaluate_command(arguments: Sequence[str]) -> int:
    """Run ``unmask evaluate``: the task that is named first, or else a likelihood.

    Raises:
        UserError: an option of what has become a task, or a misspelt task; what it is called is
            said.
    """
    for argument in arguments:
        option = argument.partition("=")[0].partition(".")[0].replace("_", "-")
        if option in _FORMER:
            raise UserError(f"{option} is a task of its own now: {_FORMER[option]}")
    if arguments and arguments[0] in TASKS.commands:
        return TASKS.run(arguments)
    first = arguments[0] if arguments else ""
    if not exists(first) and (hint := meant(first, TASKS.commands)):
        valid = ", ".join(TASKS.commands)
        raise UserError(f"there is no run or task {shown(first)}{hint}; tasks: {valid}")
    from unmask.cli.evaluate.likelihood import likelihood_command

    return likelihood_command(arguments)
