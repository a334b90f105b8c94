"""Commands as the documents write them, understood without being carried out."""

import importlib
import inspect
import pkgutil
import re
import shlex
import sys

import pytest

from unmask import cli
from unmask.cli.main import COMMANDS


def commands_of(text: str) -> list[str]:
    """What follows ``unmask`` in the lines that are indented as commands."""
    return re.findall(r"^ {4}unmask ((?:.*\\\n)*.*)$", text, flags=re.MULTILINE)


def understand(line: str, monkeypatch: pytest.MonkeyPatch, *, files_there: bool = False) -> None:
    """Every option and value is valid: what is wrong, if anything, is that no run is there yet.

    Args:
        line: a command, as `commands_of` gives it.
        monkeypatch: keeps the command from its work.
        files_there: configuration files that it names are to be read; without, nothing that
            stands behind one is checked.
    """

    class Reached(Exception):
        pass

    def reached(*_: object, **__: object) -> None:
        raise Reached

    work = {
        "load_config": "unmask.config",
        "train_run": "unmask.run",
        "cost_of": "unmask.cost",
        "compare": "unmask.compare.plan",
        "run_folder": "unmask.cli.base",
        "open_subject": "unmask.evaluate.subject",
        "suite_sources": "unmask.evaluate.zeroshot",
        "write_report": "unmask.compare.report.page",
        "load_comparison": "unmask.compare.records",
        "locality_of_corpus": "unmask.analyze.locality.study",
        "learnability": "unmask.analyze.learnability.study",
        "interventions": "unmask.analyze.interventions.study",
    }
    if files_there:
        del work["load_config"]
    commands = (found.name for found in pkgutil.walk_packages(cli.__path__, "unmask.cli."))
    for module in (*work.values(), *commands):
        importlib.import_module(module)  # all of them now, so that none keeps what is put in
    for module in [found for name, found in sys.modules.items() if name.startswith("unmask")]:
        for name in work:
            if inspect.isfunction(vars(module).get(name)):
                monkeypatch.setattr(module, name, reached)
    words = shlex.split(line.replace("\\\n", " "), comments=True)
    if words[-1] == "--help":
        assert words[0] in COMMANDS.commands
        return
    with pytest.raises(Reached):
        COMMANDS.run(words)
