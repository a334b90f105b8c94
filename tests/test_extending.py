"""Each example of docs/extending.md is run, and what it adds trains, samples, reads or measures."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from unmask.cli.analyze import ANALYSES
from unmask.data import sources
from unmask.data.files import FORMATS
from unmask.data.hub import PRESETS
from unmask.diffusion.masking import MASKINGS
from unmask.diffusion.sampler import SAMPLERS
from unmask.diffusion.time import TIME_DISTRIBUTIONS, stratified
from unmask.recipe.objective import COMPANIONS
from unmask.recipe.parse import RECIPES, parse_recipe
from unmask.run import open_run
from unmask.train.optim import OPTIMIZERS

Call = Callable[..., tuple[int, str]]
PAGE = (Path(__file__).parent.parent / "docs" / "extending.md").read_text()
REGISTRIES = (
    *(ANALYSES.commands, FORMATS, PRESETS, MASKINGS, SAMPLERS, TIME_DISTRIBUTIONS, COMPANIONS),
    *(RECIPES, OPTIMIZERS),
)


@pytest.fixture(autouse=True)
def added(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All examples of the page, run; what they enter is taken out again afterwards."""
    before = [dict(registry) for registry in REGISTRIES]
    named, counting = sources.named_sources, []
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)):
        place = re.match(r"# src/(\S+)\.py\n", code)
        module = ModuleType(place[1].replace("/", ".") if place else f"example_{number}")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(code, vars(module))
        if hasattr(module, "counting"):
            counting.append(module.counting)
    (opener,) = counting
    monkeypatch.setattr(sources, "named_sources", lambda: {**named(), "counting": opener})
    yield
    for registry, old in zip(REGISTRIES, before, strict=True):
        registry.clear()  # type: ignore[attr-defined]
        registry.update(old)  # type: ignore[attr-defined]


def test_the_time_distribution_is_one() -> None:
    triangle = parse_recipe("bell:time=triangle,peak=0.25").main
    t = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    assert float(triangle.density(t).mean()) == pytest.approx(1, abs=1e-6)
    # The mean of a triangle is that of its corners.
    u = stratified(10_000, generator=torch.Generator().manual_seed(0))
    assert float(triangle.rates(u).mean()) == pytest.approx((0 + 0.25 + 1) / 3, abs=1e-3)


def test_all_of_them_train_and_sample(unmask: Call, small: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    recipe = "bell:time=triangle,peak=0.4,masking=stripes,period=8,low-rates=0.25"
    options = ["--recipe", recipe, "--train.optimizer", "sgd", "--train.steps", 2]
    options += ["--corpus.source", "counting:to=600"]
    status, text = unmask("train", "--run", run, *small, *options)
    assert status == 0, text
    config = open_run(run).config
    assert config.train.optimizer == "sgd" and parse_recipe(config.recipe) == parse_recipe(recipe)
    assert parse_recipe(recipe).shares["low-rates"].at(0, 2) == 0.25

    asked = ["--sampler", "backwards", "--prompt", "1 2", "--length", 8, "--num", 2, "--json"]
    status, text = unmask("sample", run, *asked)
    assert status == 0, text
    assert len(text.splitlines()) == 2 and all(map(json.loads, text.splitlines()))

    status, text = unmask("analyze", "vocabulary", run)
    assert status == 0, text
    record = json.loads(text)
    assert 0 < record["entropy"] < 2.5 and record["tokens"] > 256
    assert "vocabulary" in unmask("analyze", "--help")[1]


def test_the_recipe_and_the_format_train(unmask: Call, small: list[str], tmp_path: Path) -> None:
    rows = "".join(f"{i}\tthe text of the review number {i}\n" for i in range(200))
    (tmp_path / "reviews.tsv").write_text(f"id\tbody\n{rows}")
    options = ["--recipe", "upper-half", "--train.steps", 2]
    options += ["--corpus.source", f"{tmp_path}/reviews.tsv:field=body"]
    status, text = unmask("train", "--run", tmp_path / "run", *small, *options)
    assert status == 0, text
    assert open_run(tmp_path / "run").config.recipe.startswith("upper-half:time=uniform,low=0.5")
    status, text = unmask("train", "--run", tmp_path / "other", *small, *options[:-1],
                          f"{tmp_path}/reviews.tsv")  # fmt: skip
    assert status == 2 and "has no field 'text'; its fields: id, body" in text


def test_the_data_set_is_known_by_name(unmask: Call, small: list[str], tmp_path: Path) -> None:
    """Without a network it is not found; it is not an unknown name either."""
    status, text = unmask("train", "--run", tmp_path / "run", *small, "--corpus.source", "imdb")
    assert status == 2 and "stanfordnlp/imdb" in text
