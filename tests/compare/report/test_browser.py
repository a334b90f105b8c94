"""The report in a real browser."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from unmask.compare.report.page import write_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def open_page(page: Path, scratch: Path) -> tuple[str, list[str], list[str]]:
    """Load a page without a network.

    Returns:
        Its DOM once loaded, the lines on its console, and the addresses it asked for.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    log = scratch / "net.json"
    options = "--headless --no-sandbox --disable-gpu --disable-background-networking "
    options += "--disable-component-update --disable-sync --no-first-run --enable-logging=stderr "
    options += "--v=0 --dump-dom"
    done = subprocess.run(
        [
            *(browser, *options.split(), "--host-resolver-rules=MAP * ~NOTFOUND"),
            *(f"--user-data-dir={scratch / 'profile'}", f"--log-net-log={log}", page.as_uri()),
        ],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=120,
        check=True,
    )
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    events = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    # What the browser asks for on its own account has no origin.
    asked = [e["url"] for e in events if e.get("initiator", "not an origin") != "not an origin"]
    return done.stdout, console, asked


@pytest.mark.slow
def test_report_in_a_browser(comparison: Callable[..., Path], tmp_path: Path) -> None:
    dom, console, asked = open_page(write_report(comparison()), tmp_path)
    assert console == [] and asked == []
    assert dom.count("<svg ") == 6 and dom.count("<table ") == 3
    assert "not reached" in dom and "How to read it" in dom
    assert "<script" not in dom


@pytest.mark.slow
def test_the_browser_tells_what_is_wrong(tmp_path: Path) -> None:
    """The test above would see an error and a request, were there any."""
    page = tmp_path / "page.html"
    page.write_text("<img src='http://outside.invalid/x.png'><script>console.error('hm')</script>")
    _, console, asked = open_page(page, tmp_path)
    assert any("hm" in line for line in console)
    assert asked == ["http://outside.invalid/x.png"]
