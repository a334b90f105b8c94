"""A reader of a page in a real browser, on a desktop or on a phone."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PHONE, DESKTOP = 390, 1280

OVERFLOWING = """[...document.querySelectorAll('main *')].filter(each => {
  const box = each.getBoundingClientRect();
  return box.width && !each.closest('.scroll, svg') && (box.right > innerWidth + 1 || box.left < -1)
}).map(each => each.tagName + ' ' + each.className)"""


class Reader:
    """Opens a page and does what a reader does."""

    def __init__(self, browser: Any) -> None:
        self.browser, self.width = browser, DESKTOP

    def open(self, page: Path, width: int = DESKTOP) -> None:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.browser.get("about:blank")  # or a page that is opened again counts as loaded at once
        self.browser.get(page.as_uri())
        self.width = width

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

    def overflowing(self) -> list[str]:
        """What is wider than the window, as elements and, where they cannot be told, as widths."""
        found: list[str] = self.value(OVERFLOWING)
        # Not innerWidth: a phone makes room for what is too wide, and shows it all smaller.
        wide = self.value("document.documentElement.scrollWidth")
        return found or ([f"{wide} of {self.width}"] if wide > self.width else [])


@contextmanager
def opened(profile: Path, *, reachable: str = "", height: int = 900) -> Iterator[Any]:
    """A headless browser without a network that notes its console and requests.

    Args:
        profile: an empty folder of its own.
        reachable: the one host that it can ask; none by default.
        height: of its window, pixels.
    """
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
        *(f"window-size={DESKTOP},{height}", f"user-data-dir={profile}"),
        "host-resolver-rules=MAP * ~NOTFOUND" + (f", EXCLUDE {reachable}" if reachable else ""),
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    found.get("about:blank")
    try:
        yield found
    finally:
        found.quit()
