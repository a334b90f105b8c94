"""What the README says is so."""

import importlib
import inspect
import pkgutil
import re
import shlex
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

    work = ("train_run", "compare", "open_run", "open_subject", "write_report", "load_config")
    work += ("load_comparison", "locality_of_corpus", "learnability", "interventions")
    for module in pkgutil.walk_packages(cli.__path__, "unmask.cli."):
        for name in work:
            found = importlib.import_module(module.name)
            if inspect.isfunction(getattr(found, name, None)):
                monkeypatch.setattr(found, name, reached)
    words = shlex.split(line.replace("\\\n", " "), comments=True)
    if words[-1] == "--help":
        assert words[0] in COMMANDS
        return
    with pytest.raises(Reached):
        cli.main(words)
