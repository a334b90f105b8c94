"""The pages of the analyses in a real browser."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from reader import DESKTOP, PHONE, Reader
from unmask.analyze.page import write_page

Call = Callable[..., tuple[int, str]]
LONG = "bell:mean=0.35,std=0.15+train.optimizer=adamw"


@pytest.mark.slow
@pytest.mark.usefixtures("in_process")
def test_pages_fit_a_phone_and_show_all_they_have(
    reader: Reader,
    comparison_folder: Path,
    unmask: Call,
    small: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("UNMASK_CACHE", str(comparison_folder.parent / "cache"))
    few = ["--steps", 2, "--restarts", 2, "--blocks", 4, "--checkpoints", 1]
    two = ["--recipes", f"standard,{LONG},ar", "--train.steps", 6, "--validation.every", 3]
    studies = {
        "learnability": [comparison_folder, *few, "--gradient-blocks", 4],
        "locality": [comparison_folder / "standard" / "seed-0"],
        "interventions": ["--run", tmp_path / "why", *small, *two, "--jobs", 2],
    }
    for name, options in studies.items():
        folder = tmp_path / "pages" / name
        status, text = unmask("analyze", name, *options, "--out", folder)
        assert status == 0, text
        record = folder / f"{name}.json"
        record.write_text(record.read_text().replace(': "bell"', f': "{LONG}"'))
        page = write_page(record, import_module(f"unmask.analyze.{name}.plots").all_plots)
        assert "<image" not in page.read_text()  # which the page's policy would hold back
        for width in (PHONE, DESKTOP):
            reader.open(page, width)
            assert reader.overflowing() == [], (name, width)
            shown = [drawing for drawing in reader.all("figure > div") if drawing.is_displayed()]
            assert len(shown) == len(reader.all("figure")) > 1
        assert reader.said() == [] and reader.asked() == {page.as_uri()}
