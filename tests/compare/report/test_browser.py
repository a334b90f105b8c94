"""The report in a real browser: what a reader does with it, on a desktop and on a phone."""

from collections.abc import Callable
from pathlib import Path

import pytest
from made_up import made_up, many

from reader import DESKTOP, PHONE, Reader
from unmask.compare.report.page import write_report


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of 24 arms with two seeds, one run of which diverged."""
    states = {("fast", 1): "diverged"}
    folder = made_up(tmp_path_factory.mktemp("crowd") / "cmp", 2, states, many(24))
    return write_report(folder)


@pytest.mark.slow
def test_the_page_loads_quietly(reader: Reader, comparison: Callable[..., Path]) -> None:
    page = write_report(comparison())
    reader.open(page)
    assert len(reader.all("figure")) == 6 and len(reader.all("table")) == 3
    assert "not reached" in reader.all("main")[0].text
    assert reader.said() == [] and reader.asked() == {page.as_uri()}


@pytest.mark.slow
def test_an_arm_is_hidden_in_all_plots_and_shown_again(reader: Reader, crowd: Path) -> None:
    reader.open(crowd)
    every = {str(index) for index in range(24)}
    assert reader.shown("nelbo_steps") == every
    assert reader.shown("speed_up") == every - {"0"}  # the baseline is what it is measured by
    reader.box("nelbo_steps", "bell").click()
    assert reader.shown("nelbo_steps") == every - {"2"}
    assert reader.shown("training") == every - {"2"}
    assert not reader.box("speed_up", "bell").is_selected()
    assert reader.shown("speed_up") == every - {"0", "2"}
    assert reader.all("#nelbo_steps.crowded")

    reader.choose("training", "none")
    assert reader.shown("nelbo_steps") == set()
    for name in ("standard", "ar"):
        reader.box("cross_entropy" if name == "standard" else "nelbo_seconds", name).click()
    assert reader.shown("nelbo_steps") == {"0", "4"}
    assert not reader.all("#nelbo_steps.crowded")
    reader.choose("nelbo_steps", "all")
    assert reader.shown("nelbo_steps") == every
    assert reader.said() == []


@pytest.mark.slow
def test_a_name_under_the_pointer_makes_the_others_faint(reader: Reader, crowd: Path) -> None:
    from selenium.webdriver import ActionChains

    reader.open(crowd)
    entry = reader.box("nelbo_steps", "mirror").find_element("xpath", "./ancestor::li")
    strength = """[2, 5].map(arm => getComputedStyle(document.querySelector(
      `#nelbo_steps .wide g.arm:not(.band)[data-arm="${arm}"]`)).opacity)"""
    assert reader.value(strength) == ["1", "1"]
    ActionChains(reader.browser).move_to_element(entry).perform()
    assert reader.value(strength) == ["0.12", "1"]
    ActionChains(reader.browser).move_to_element(reader.all("h1")[0]).perform()
    assert reader.value(strength) == ["1", "1"]


@pytest.mark.slow
def test_tables_sort_by_a_heading_and_come_back(reader: Reader, crowd: Path) -> None:
    reader.open(crowd)
    before = reader.column("leaderboard", 0)
    assert "other mask rates" in before

    def bounds(texts: list[str]) -> list[float]:
        return [float(text) for text in texts]

    heading = reader.heading("leaderboard", 3)
    heading.find_element("css selector", "button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    found = bounds(reader.column("leaderboard", 3))
    assert len(found) == 24 and found == sorted(found)
    assert "other mask rates" not in reader.column("leaderboard", 0)
    heading.find_element("css selector", "button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert bounds(reader.column("leaderboard", 3)) == found[::-1]
    heading.find_element("css selector", "button").click()
    assert heading.get_attribute("aria-sort") is None
    assert reader.column("leaderboard", 0) == before


@pytest.mark.slow
def test_tables_sort_from_the_keyboard(reader: Reader, crowd: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    reader.open(crowd)
    first, second = (reader.heading("leaderboard", number) for number in (0, 1))
    first.find_element("css selector", "button").send_keys(Keys.ENTER)
    names = reader.column("leaderboard", 0)
    assert names[:2] == ["ar", "bell"] and names[-1] == "window"
    reader.browser.switch_to.active_element.send_keys(Keys.TAB)
    reader.browser.switch_to.active_element.send_keys(Keys.SPACE)
    assert [h.get_attribute("aria-sort") for h in (first, second)] == [None, "descending"]
    ratios = reader.column("leaderboard", 1)
    reached = [float(text.rstrip("×")) for text in ratios if text != "not reached"]
    assert reached == sorted(reached, reverse=True) and 10 < len(reached) < 24
    assert ratios[: len(reached)].count("not reached") == 0  # what is not known stands last
    second.find_element("css selector", "button").click()
    assert "not reached" in reader.column("leaderboard", 1)[-1]


@pytest.mark.slow
def test_the_rows_of_a_recipe_stay_together(reader: Reader, crowd: Path) -> None:
    reader.open(crowd)
    reader.heading("summary", 2).find_element("css selector", "button").click()
    firsts = reader.value("""[...document.querySelectorAll('#summary tbody')].map(body =>
      [...body.rows].map(row => row.querySelector('.unit').innerText).join())""")
    assert firsts == ["in steps,in seconds"] * 24
    ratios = reader.value("""[...document.querySelectorAll('#summary tbody')]
      .map(body => parseFloat(body.rows[0].cells[2].innerText))""")
    assert ratios == sorted(ratios, reverse=True)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_everything_fits_and_can_be_read(
    reader: Reader, crowd: Path, width: int, scheme: str
) -> None:
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    reader.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    reader.open(crowd, width)
    assert reader.value("matchMedia(`(prefers-color-scheme: ${arguments[0]})`).matches", scheme)
    assert reader.overflowing() == []
    for kind in ("wide", "narrow"):
        drawings = reader.all(f"figure > .{kind}")
        assert {d.is_displayed() for d in drawings} == {(kind == "wide") == (width == DESKTOP)}
    # Letters in a plot are at least 8 pixels high on a phone; half a drawing's width would be 5.
    scale = """(() => { const svg = [...document.querySelectorAll('figure svg[role]')]
      .find(each => each.getBoundingClientRect().width);
      return svg.getBoundingClientRect().width / svg.viewBox.baseVal.width })()"""
    assert 9 * reader.value(scale) >= 8
    paper = reader.value("getComputedStyle(document.body).backgroundColor")
    line = "#nelbo_steps .{} g[data-arm='0'] path[style]".format(
        "wide" if width == DESKTOP else "narrow"
    )
    ink = reader.value("getComputedStyle(document.querySelector(arguments[0])).stroke", line)
    sums = [sum(int(part) for part in c[4:-1].split(",")) for c in (paper, ink)]
    assert sums[0] - sums[1] > 500 if scheme == "light" else sums[1] - sums[0] > 500
    assert reader.said() == [] and reader.asked() == {crowd.as_uri()}


@pytest.mark.slow
def test_without_scripts_everything_is_there(reader: Reader, crowd: Path) -> None:
    reader.browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        reader.open(crowd)
        assert len([g for g in reader.all("#nelbo_steps .legend li") if g.is_displayed()]) == 25
        assert not any(box.is_displayed() for box in reader.all("input"))
        assert not reader.all("button")
        assert len(reader.all("#leaderboard tbody tr:not(.group)")) == 24
        assert len(reader.shown("nelbo_steps")) == 24
    finally:
        reader.browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


@pytest.mark.slow
def test_what_is_not_the_pages_own_is_held_back_and_seen(reader: Reader, tmp_path: Path) -> None:
    """The tests above would see an error and a request, were there any."""
    folder = made_up(tmp_path / "cmp", 1)
    page = write_report(folder)
    text = page.read_text(encoding="utf-8")
    strange = "<script>document.title = 'taken'</script><img src='http://outside.invalid/x.png'>"
    page.write_text(text.replace("</main>", f"{strange}</main>"), encoding="utf-8")
    reader.open(page)
    assert reader.browser.title != "taken"
    said = reader.said()
    assert any("script" in line and "Content Security Policy" in line for line in said)
    assert any("outside.invalid" in line and "Content Security Policy" in line for line in said)

    bare = tmp_path / "bare.html"
    bare.write_text("<img src='http://outside.invalid/x.png'><script>console.error('hm')</script>")
    reader.open(bare)
    assert any("hm" in line for line in reader.said())
    assert "http://outside.invalid/x.png" in reader.asked()
