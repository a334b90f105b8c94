"""The documentation: what pages say of the code is so; the site is whole, and loads nothing."""

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from selenium.webdriver.support.ui import WebDriverWait

from reader import PHONE, Reader
from unmask import MASKINGS, RECIPES, TIME_DISTRIBUTIONS, WEIGHTINGS, parse_recipe
from unmask.cli.main import COMMANDS
from unmask.data.hub import PRESETS
from unmask.data.transforms import TRANSFORMS
from unmask.diffusion.adaptive import FITS
from unmask.diffusion.estimators import ESTIMATORS
from unmask.diffusion.sampler import SAMPLERS
from unmask.diffusion.time import TruncatedNormal
from unmask.recipe.objective import COMPANIONS, Denoising
from unmask.recipe.recipe import Recipe
from unmask.run import open_run
from written_commands import commands_of, understand

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))}


@pytest.fixture(scope="module")
def from_code() -> ModuleType:
    """The hook that fills in what pages show from the code."""
    spec = importlib.util.spec_from_file_location("from_code", DOCS / "from_code.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Recipes


def rates_and_weight(recipe: Recipe) -> tuple[str, str]:
    """What the table has to say of a recipe."""
    main = recipe.main
    if not isinstance(main, Denoising):
        return "", ""
    if isinstance(main.time, TruncatedNormal):
        rates = f"truncated normal ({main.time.mean}, {main.time.std})"
    else:
        low, high = main.time.low, main.time.high  # type: ignore[attr-defined]
        rates = "uniform" if (low, high) == (0, 1) else f"uniform on {low} to {high}"
    rates += ", then fitted" * (main.fit != "none")
    rates += ", going over to uniform" * ("uniform" in recipe.shares)
    return rates, {"flat": "1", "importance": "1/(t p(t))"}.get(main.weight, main.weight)


def test_the_table_of_recipes_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| `(\w[\w-]*)` \|(.*?)\|(.*?)\|.*\|$", PAGES["recipes.md"], re.MULTILINE)
    told = {name: (rates.strip(), weight.strip()) for name, rates, weight in rows}
    assert told == {name: rates_and_weight(recipe) for name, recipe in RECIPES.items()}


def test_the_recipes_that_pages_name_can_be_read() -> None:
    named = [
        spec
        for page, text in PAGES.items()
        if page != "extending.md"  # whose examples add what they name
        for spec in re.findall(r"`((?:bell|flat|fast|narrow):[^`\s]+=[^`\s]+)`", text)
    ]
    assert len(named) > 10
    for spec in named:
        parse_recipe(spec)


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("recipes.md", [*TIME_DISTRIBUTIONS, *MASKINGS, *WEIGHTINGS, *FITS, *COMPANIONS]),
        ("corpora.md", [*PRESETS, *TRANSFORMS]),
        ("evaluation.md", [*ESTIMATORS]),
        ("sampling.md", [*SAMPLERS]),
    ],
)
def test_what_can_be_chosen_is_on_its_page(page: str, names: list[str]) -> None:
    assert [name for name in names if f"`{name}`" not in PAGES[page]] == []


# Commands

LINES = [
    pytest.param(line, id=f"{page}: {line[:40]}")
    for page, text in {"README.md": (ROOT / "README.md").read_text(), **PAGES}.items()
    if page not in ("extending.md", "tutorial.md")  # these have tests of their own
    for line in commands_of(text)
    if "RUN" not in line.split() and "..." not in line
]


@pytest.mark.parametrize("line", LINES)
def test_the_commands_are_understood(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    understand(line, monkeypatch)


def test_every_command_and_option_is_on_the_page(
    from_code: ModuleType, unmask: Callable[..., tuple[int, str]]
) -> None:
    page = from_code.on_page_markdown(PAGES["commands.md"])
    assert set(re.findall(r"^## `unmask (\w+)`", page, re.MULTILINE)) == set(COMMANDS.commands)
    for command in re.findall(r"^##+ `unmask (.*)`", page, re.MULTILINE):
        section = page[page.index(f"# `unmask {command}`") :].split("\n##")[0]
        # Groups of options that are those of a command before stand there.
        for other in re.findall(r"those of \[`(unmask .*?)`\]", section):
            section += page[page.index(f"# `{other}`") :].split("\n##")[0]
        _, shown = unmask(*command.split(), "--help")
        options = set(re.findall(r"(?<![\w-])--[a-z][\w.-]*", shown)) - {"--help"}
        assert {option for option in options if option not in section} == set()
    assert "`--train.steps` `INT` (default: `2000`)\n:   optimiser steps" in page


def test_what_is_no_part_of_the_code_is_refused(from_code: ModuleType) -> None:
    with pytest.raises(KeyError, match="nonsense"):
        from_code.on_page_markdown("<!-- from the code: nonsense -->")


# A run's folder, the rooms


def test_a_run_holds_what_its_page_says(
    unmask: Callable[..., tuple[int, str]], small: list[str], tmp_path: Path
) -> None:
    page, run = PAGES["run-folder.md"], tmp_path / "run"
    assert unmask("train", "--run", run, *small, "--train.steps", 2)[0] == 0
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    fields = {key for record in records for key in record} | {"utilisation"}
    table = page[page.index("## metrics.jsonl") : page.index("## Checkpoints")]
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", table, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"\w+", row)} == fields
    checkpoint = open_run(run).folder / "checkpoints" / "step-00000002"
    for path in (*run.iterdir(), *checkpoint.iterdir()):
        name = f"{path.name}/" if path.is_dir() else path.name
        assert f"`{name}" in page or name.startswith("."), name


def test_every_room_is_in_the_design_once_and_in_order(from_code: ModuleType) -> None:
    page = PAGES["design.md"]
    told = re.findall(r"^\| `(\w+)(?:/|\.py)` \|", page, re.MULTILINE)[::-1]
    uses = from_code.imports_of_rooms()
    drawn = from_code.in_order(uses)
    assert sorted(told) == sorted(uses)
    for room, others in uses.items():
        assert all(told.index(other) < told.index(room) for other in others)
        assert all(drawn.index(other) < drawn.index(room) for other in others)
    picture = from_code.on_page_markdown(page)
    assert picture.count("<circle") == sum(map(len, uses.values()))


# Links, and the site


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"])
def test_links_of_the_repository_lead_somewhere(name: str) -> None:
    file = ROOT / name
    if not file.exists():
        pytest.skip(f"there is no {name}")
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", file.read_text(encoding="utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_pages_that_code_and_scripts_name_are_there() -> None:
    files = [*ROOT.glob("src/**/*.py"), *ROOT.glob("src/**/*.yaml"), *ROOT.glob("benchmarks/*")]
    texts = [path.read_text(encoding="utf-8") for path in files if path.is_file()]
    named = {name for text in texts for name in re.findall(r"docs/[\w/.-]+?\.(?:md|png)", text)}
    assert len(named) > 4
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_experiments_are_dated_and_listed_newest_first() -> None:
    index = (DOCS / "experiments/index.md").read_text()
    listed = re.findall(r"^\| (\S+) \| \[.*?\]\((\S+?)\)", index, re.MULTILINE)
    assert all(page.startswith(date) for date, page in listed)
    assert [date for date, _ in listed] == sorted((date for date, _ in listed), reverse=True)
    assert {page for _, page in listed} == {p.name for p in (DOCS / "experiments").glob("2*.md")}


LOADED = re.compile(
    r"<(?:script|img|iframe|source|video|audio)[^>]+src=[\"']?(?:https?:)?//"
    r"|<link[^>]+href=[\"']?(?:https?:)?//(?![^>]*canonical)"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly: without a warning, so without a dead link."""
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("docs") / "site"
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    subprocess.run(words, check=True, cwd=ROOT)
    return folder


@pytest.mark.slow
def test_it_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not LOADED.search(text), page.name
        assert "from the code:" not in text, page.name
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", style.read_text())
    assert "TruncatedNormal" in (site / "api.html").read_text(encoding="utf-8")
    commands = (site / "commands.html").read_text(encoding="utf-8")
    assert all(f'id="unmask-{name}"' in commands for name in COMMANDS.commands)


@pytest.mark.slow
def test_search_works_without_a_server_and_pages_fit_a_phone(site: Path, reader: Reader) -> None:
    reader.open(site / "experiments/index.html")
    (box,) = reader.all("input[name=query]")
    box.click()
    box.send_keys("stratified")
    WebDriverWait(reader.browser, 60).until(
        lambda _: "Recipes" in reader.all(".md-search-result__list")[0].text
    )
    urls = reader.asked()
    assert urls and all(url.startswith(("file:", "data:", "about:")) for url in urls)
    assert reader.said() == []

    for page in sorted(site.rglob("*.html")):
        reader.open(page, PHONE)
        assert reader.value("document.documentElement.scrollWidth") <= PHONE, page.name
