"""The report in a real browser: what a reader does with it, on a desktop and on a phone."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from made_up import made_up, many

from unmask.compare.report.page import write_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PHONE, DESKTOP = 390, 1280


class Reader:
    """Opens a page and does what a reader does."""

    def __init__(self, browser: Any) -> None:
        self.browser = browser

    def open(self, page: Path, width: int = DESKTOP) -> None:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.browser.get(page.as_uri())

    def all(self, selector: str) -> list[Any]:
        return self.browser.find_elements("css selector", selector)

    def value(self, script: str, *arguments: object) -> Any:
        return self.browser.execute_script(f"return {script}", *arguments)

    def shown(self, plot: str) -> set[str]:
        """Places of the arms of which something is to be seen in a plot."""
        groups = self.all(f"#{plot} g[data-arm]")
        return {g.get_attribute("data-arm") for g in groups if g.is_displayed()}

    def box(self, plot: str, name: str) -> Any:
        (found,) = [b for b in self.all(f"#{plot} input") if b.get_property("value") == name]
        return found

    def choose(self, plot: str, label: str) -> None:
        """Press a word of the line above a legend."""
        (found,) = [b for b in self.all(f"#{plot} .choose button") if b.text == label]
        found.click()

    def column(self, table: str, number: int) -> list[str]:
        """The first line of each cell of a column that is to be seen, from top to bottom."""
        script = """[...document.querySelectorAll(arguments[0])].filter(row => !row.hidden)
          .map(row => row.cells[arguments[1]]?.innerText.trim().split('\\n')[0])"""
        return self.value(script, f"#{table} tbody tr", number)

    def heading(self, table: str, number: int) -> Any:
        return self.all(f"#{table} thead th")[number]

    def said(self) -> list[str]:
        """What stands on the console."""
        return [line["message"] for line in self.browser.get_log("browser")]

    def asked(self) -> set[str]:
        """Addresses that were asked for, but by the browser for its own first tab."""
        events = [json.loads(e["message"])["message"] for e in self.browser.get_log("performance")]
        sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
        return {e["request"]["url"] for e in sent if not e["documentURL"].startswith("chrome")}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless browser without a network that notes its console and requests."""
    webdriver = pytest.importorskip("selenium.webdriver")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed, or no chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in (
        *("headless=new", "no-sandbox", "disable-gpu", "no-first-run", "no-proxy-server"),
        *("disable-background-networking", "disable-component-update", "disable-sync"),
        f"user-data-dir={tmp_path_factory.mktemp('profile')}",
        "host-resolver-rules=MAP * ~NOTFOUND",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    found.get("about:blank")
    yield found
    found.quit()


@pytest.fixture
def reader(browser: Any) -> Reader:
    found = Reader(browser)
    found.said(), found.asked()  # what an earlier test left
    return found


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


OVERFLOWING = """[...document.querySelectorAll('main *')].filter(each => {
  const box = each.getBoundingClientRect();
  return box.width && !each.closest('.scroll, svg') && (box.right > innerWidth + 1 || box.left < -1)
}).map(each => each.tagName + ' ' + each.className)"""


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
    wide, room = reader.value("[document.documentElement.scrollWidth, innerWidth]")
    assert room == width and wide <= room
    assert reader.value(OVERFLOWING) == []
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
