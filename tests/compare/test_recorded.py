"""A comparison recorded by version 0.1.0 (commit 856971a), its records alone: the same numbers.

``recorded.tar.xz`` holds its folder without weights and tokenizers, ``halves.md`` what
``benchmarks/halves.py --groups`` printed of it, ``compare.txt`` what ``unmask compare`` did.
"""

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

Call = Callable[..., tuple[int, str]]

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder; not to be changed."""
    root = tmp_path_factory.mktemp("recorded")
    with tarfile.open(HERE / "recorded.tar.xz") as archive:
        archive.extractall(root, filter="data")
    return root / "old_comparison"


def table_of(recorded: Path, unmask: Call, *options: str) -> str:
    status, text = unmask("report", recorded, "--format", "table", *options)
    assert status == 0, text
    return text


def test_the_table_of_one_half_of_the_blocks(recorded: Path, unmask: Call) -> None:
    wanted = (HERE / "recorded/halves.md").read_text()
    assert table_of(recorded, unmask, "--blocks", "odd") == wanted


def test_the_table_of_all_blocks(recorded: Path, unmask: Call) -> None:
    printed = (HERE / "recorded/compare.txt").read_text()
    table = table_of(recorded, unmask)
    assert table.count("\n") > 10 and table in printed


def test_the_numbers_are_those_of_its_own_comparison_json(recorded: Path, unmask: Call) -> None:
    wanted = json.loads((recorded / "comparison.json").read_text())
    status, text = unmask("report", recorded, "--format", "json")
    assert status == 0
    found = json.loads(text)
    for recipe in (*found["recipes"], *wanted["recipes"]):
        recipe.pop("recipe")  # the specification's spelling may change
    assert found == {"blocks": "all", **wanted}


def test_another_baseline_turns_the_numbers_round(recorded: Path, unmask: Call) -> None:
    def found(name: str, baseline: str) -> dict[str, float]:
        options = ("--format", "json", "--blocks", "even", "--baseline", baseline)
        recipes = json.loads(unmask("report", recorded, *options)[1])["recipes"]
        assert recipes[0]["name"] == baseline
        return next(r for r in recipes if r["name"] == name)["final_difference"]

    there, back = found("fast", "bell"), found("bell", "fast")
    assert there["value"] == pytest.approx(-back["value"])
    assert there["ci_low"] == pytest.approx(-back["ci_high"])
    assert there["evaluation_stderr"] == pytest.approx(back["evaluation_stderr"])


def test_halves_choose_and_report_in_turn(recorded: Path, unmask: Call) -> None:
    def bounds(blocks: str) -> dict[str, tuple[float, float]]:
        text = unmask("report", recorded, "--format", "json", "--blocks", blocks)[1]
        recipes = json.loads(text)["recipes"]
        return {r["name"]: (r["choosing_nelbo"], r["final_nelbo"]) for r in recipes}

    even, odd = bounds("even"), bounds("odd")
    assert even == {name: (second, first) for name, (first, second) in odd.items()}


def test_what_cannot_be_reported(recorded: Path, unmask: Call) -> None:
    status, text = unmask("report", recorded, "--baseline", "bel")
    assert status == 2 and "valid:" in text and "standard" in text
    assert unmask("report", recorded, "--blocks", "third")[0] == 2
