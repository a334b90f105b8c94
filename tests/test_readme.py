"""What the README says is so."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from unmask import RECIPES, parse_recipe
from written_commands import commands_of, understand

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


LINES = commands_of(README[README.index("## Commands") :])


@pytest.mark.parametrize("line", LINES)
def test_the_commands_are_understood(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    understand(line, monkeypatch)
