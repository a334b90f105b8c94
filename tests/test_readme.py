"""What the README says is so."""

import re
from collections.abc import Callable
from pathlib import Path

import torch

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


def test_it_is_read_in_two_minutes() -> None:
    assert len(README.splitlines()) <= 110 and len(README.split()) < 1300
