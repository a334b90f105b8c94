"""What the README says is so."""

import importlib
import inspect
import pkgutil
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from unmask import RECIPES, cli, parse_recipe
from unmask.cli.main import COMMANDS

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_library_example_trains_a_model() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names: dict[str, Callable[..., torch.Tensor]] = {}
    exec(code, names)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Embedding(6, 8), torch.nn.Linear(8, 6))
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    x = torch.full((16, 10), 3)
    first = float(names["loss"](model, x, 5).detach())
    for _ in range(30):
        optimizer.zero_grad()
        names["loss"](model, x, 5).backward()
        optimizer.step()
    assert float(names["loss"](model, x, 5).detach()) < 0.1 * first


def test_the_table_of_recipes_is_complete() -> None:
    table = README[README.index("### Recipes") : README.index("### Corpora")]
    assert set(re.findall(r"^\| `(\w[\w-]*)`", table, flags=re.MULTILINE)) == set(RECIPES)
    for spec in re.findall(r"`([\w-]+:[^`]+)`", table):
        parse_recipe(spec)


LINES = re.findall(
    r"^ {4}unmask ((?:.*\\\n)*.*)$", README[README.index("## Commands") :], flags=re.MULTILINE
)


@pytest.mark.parametrize("line", LINES)
def test_the_commands_are_understood(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every option and value is valid: what is wrong, if anything, is that no run is there yet."""

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
