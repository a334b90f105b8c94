"""The leaderboard: arms by what they change, the fastest first."""

import re
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest

from unmask.compare.report.page import write_report
from unmask.config import load_config, save_config


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the plots out, which take most of the time."""
    monkeypatch.setattr("unmask.plot.figure.draw", lambda *_: [])


def page_of(folder: Path, recipes: dict[str, str] | None = None) -> str:
    """The page of a comparison some of whose arms, by the start of their folder, have others."""
    for place, recipe in (recipes or {}).items():
        for path in folder.glob(f"{place}*/seed-*/config.yaml"):
            config = load_config(path)
            save_config(config.model_copy(update={"recipe": recipe}), path)
    return write_report(folder).read_text()


def rows_of(page: str) -> list[str]:
    """The plain text of the leaderboard's rows."""
    board = page.split('id="leaderboard"')[1].split("</table>", maxsplit=1)[0]
    rows = re.findall(r"<tr.*?</tr>", board, re.S)
    plain = [row.replace("<wbr>", "") for row in rows]
    return [unescape(re.sub(r"<[^>]+>", " ", row)).strip() for row in plain]


def test_groups_and_recipes_stand_by_speed_up(comparison: Callable[..., Path]) -> None:
    rows = rows_of(page_of(comparison(2)))
    heads = [row.split("  ")[0].strip() for row in rows[1:]]
    order = ["autoregressive", "other masks", "the baseline's recipe", "other mask rates"]
    assert [heads.index(head) for head in order] == [0, 2, 4, 6]
    assert heads[1] == "ar" and heads[3].startswith("bell+x=") and "standard" in heads[5]
    assert "0.35" in rows[-1] and "not reached" in rows[-1]
    assert rows[2].endswith("2")  # seeds


def test_recipes_of_a_group_stand_by_speed_up(comparison: Callable[..., Path]) -> None:
    same = {"standard": "flat", "bell": "flat", "ar": "flat"}
    rows = rows_of(page_of(comparison(1), same))
    assert len(rows) == 6 and "other mask rates" in rows[1]
    firsts = [row.split()[0] for row in rows[2:]]
    assert [firsts[0], firsts[2]] == ["ar", "standard"]
    assert "alert" in rows[3] and "0.35" in rows[5]


def test_without_a_configuration_there_is_no_leaderboard(comparison: Callable[..., Path]) -> None:
    folder = comparison(2)
    for path in folder.glob("ar/*/config.yaml"):
        path.unlink()
    assert 'id="leaderboard"' not in write_report(folder).read_text()
