"""The leaderboard: arms by what they change, the fastest first."""

import json
import re
from collections.abc import Callable
from pathlib import Path

from unmask.compare.report import write_report

GROUPS = ["baseline", "masks", "time", "autoregressive"]


def page_of(folder: Path, groups: list[str]) -> str:
    """The page of a comparison whose arms belong to these groups."""
    path = folder / "comparison.json"
    summary = json.loads(path.read_text())
    for recipe, group in zip(summary["recipes"], groups, strict=True):
        recipe["group"] = group
    path.write_text(json.dumps(summary))
    return write_report(folder).read_text()


def rows_of(page: str) -> list[str]:
    """The plain text of the leaderboard's rows."""
    board = page.split('id="leaderboard"')[1].split("</table>", maxsplit=1)[0]
    rows = re.findall(r"<tr.*?</tr>", board, re.S)
    plain = [row.replace("<wbr>", "") for row in rows]
    return [re.sub(r"<[^>]+>", " ", row).strip() for row in plain]


def test_groups_and_recipes_stand_by_speed_up(comparison: Callable[..., Path]) -> None:
    rows = rows_of(page_of(comparison(2), GROUPS))
    heads = [row.split("  ")[0] for row in rows[1:]]
    assert [heads.index(h) for h in ("autoregressive", "other mask rates")] == [0, 2]
    assert heads[1] == "ar" and heads[3].startswith("bell+x=") and "standard" in heads[5]
    assert heads[-2] == "other masks" and "0.35" in rows[-1] and "not reached" in rows[-1]
    assert rows[2].endswith("2")  # seeds


def test_recipes_of_a_group_stand_by_speed_up(comparison: Callable[..., Path]) -> None:
    rows = rows_of(page_of(comparison(1), ["time"] * 4))
    assert len(rows) == 6 and "other mask rates" in rows[1]
    firsts = [row.split()[0] for row in rows[2:]]
    assert [firsts[0], firsts[2]] == ["ar", "standard"]
    assert "alert" in rows[3] and "0.35" in rows[5]


def test_records_without_groups_have_no_leaderboard(comparison: Callable[..., Path]) -> None:
    assert 'id="leaderboard"' not in write_report(comparison(2)).read_text()
