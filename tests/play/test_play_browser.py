"""The page in a real browser: a text comes, alternatives are shown, nothing leaves the page."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from served import served

from reader import opened
from unmask.run import Run
from unmask.sample import SamplerOptions, complete, infill


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    """A headless browser that notes its console and requests, and reaches this machine alone."""
    pytest.importorskip("gradio")
    with opened(tmp_path / "profile", reachable="127.0.0.1", height=1400) as found:
        yield found


class Hand:
    """What a visitor does."""

    def __init__(self, browser: Any, address: str) -> None:
        self.browser, self.address = browser, address
        browser.get(address)
        self.wait(lambda: self.all("#start"))

    def all(self, selector: str) -> list[Any]:
        return self.browser.find_elements("css selector", selector)

    def wait(self, condition: Callable[[], Any], seconds: float = 30) -> Any:
        from selenium.common.exceptions import StaleElementReferenceException

        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if found := condition():
                    return found
            except (IndexError, StaleElementReferenceException):
                pass  # what was looked at has just been replaced
            time.sleep(0.02)
        raise AssertionError("it did not come")

    def write(self, name: str, text: str) -> None:
        from selenium.webdriver.common.keys import Keys

        (box,) = self.all(f"#{name} textarea, #{name} input[type=text], #{name} .head input")
        box.send_keys(Keys.CONTROL, "a")
        box.send_keys(text)
        box.send_keys(Keys.TAB)

    def shown(self, number: int = 0) -> str:
        """The text as its cells show it."""
        script = """return [...document.querySelectorAll(arguments[0])].map(e => [...e.childNodes]
          .filter(n => n.nodeType === 3).map(n => n.data).join('')).join('')"""
        return self.browser.execute_script(script, f"#view-{number} .text > span")

    def state(self, number: int = 0) -> tuple[str, int]:
        (view,) = self.all(f"#view-{number} section")
        return view.get_attribute("data-done"), int(view.get_attribute("data-step"))

    def colours(self) -> list[str]:
        return [c.value_of_css_property("background-color") for c in self.all("#view-0 .cell")]

    def value(self, name: str) -> str:
        return self.all(f"#{name} textarea")[0].get_property("value")

    def press(self) -> None:
        self.all("#start")[0].click()

    def unmask(self) -> str:
        """Press the button and wait for the text."""
        self.press()
        self.wait(lambda: self.state()[0] == "no")
        self.wait(lambda: self.state()[0] == "yes" and self.value("text-0"))
        return self.value("text-0")

    def hover(self, element: Any) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.browser).move_to_element(element).perform()

    def said(self) -> list[str]:
        """What stands on the console."""
        lines = [(line["level"], line["message"]) for line in self.browser.get_log("browser")]
        return [message for level, message in lines if level != "INFO"]

    def asked(self) -> set[str]:
        """Addresses that were asked for, beside the page's own."""
        events = [json.loads(e["message"])["message"] for e in self.browser.get_log("performance")]
        requests = [
            e["params"].get("request", e["params"])["url"]
            for e in events
            if e["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated")
        ]
        assert any(url.startswith(self.address) for url in requests)
        return {u for u in requests if u.startswith(("http", "ws")) and self.address not in u}


@pytest.mark.slow
def test_a_visitor_watches_a_text(run: Run, browser: Any) -> None:
    with served([run]) as address:
        hand = Hand(browser, address)
        hand.write("text", "the <b> {{x}} ${y} ")
        hand.write("steps", "10")
        hand.write("seconds", "2")
        hand.press()
        steps = set()
        while hand.wait(hand.state)[0] != "yes" or not steps:
            steps.add(hand.state()[1])
        assert len(steps) > 3
        text = hand.wait(lambda: hand.value("text-0"))
        options = SamplerOptions(steps=10)
        prompt = "the <b> {{x}} ${y} "
        assert text == prompt + complete(run, [prompt], new_tokens=13, options=options)[0]
        assert hand.shown().startswith(prompt)
        assert "--prompt='the <b> {{x}} ${y} '" in hand.value("command-0")

        cell = hand.all("#view-0 .cell")[3]
        hand.hover(cell)
        (tips,) = hand.wait(lambda: [t for t in hand.all("#view-0 .tips") if t.is_displayed()])
        assert "came at step" in tips.text and tips.text.count("%") >= 6

        hand.write("seconds", "1")
        hand.write("seed", "1")
        other = hand.unmask()
        hand.write("seed", "0")
        assert other != text and hand.unmask() == text

        colours = hand.colours()
        hand.all("#colour input")[1].click()
        hand.wait(lambda: hand.colours() != colours)
        assert len(set(colours)) > 3

        hand.write("step", "0")
        hand.wait(lambda: len(hand.all("#view-0 .mask")) == 13)
        assert hand.said() == [] and hand.asked() == set()


@pytest.mark.slow
def test_two_runs_stand_side_by_side_and_bad_fields_are_told(
    run: Run, trained: Callable[[str], Run], browser: Any
) -> None:
    runs = [run, trained("bell")]
    with served(runs) as address:
        hand = Hand(browser, address)
        hand.write("seconds", "1")
        hand.write("text", "the [MASK*12] on a")
        hand.unmask()
        first, second = hand.all("#view-0")[0].rect, hand.all("#view-1")[0].rect
        assert first["y"] == second["y"] and first["x"] + first["width"] <= second["x"]
        for number, each in enumerate(runs):
            (text,) = infill(each, "the [MASK*12] on a", num=1, options=SamplerOptions())
            assert hand.value(f"text-{number}") == text
        assert hand.said() == []

        hand.write("steps", "0")
        hand.press()
        hand.wait(lambda: "Steps must be at least 1, not 0." in hand.all("#steps")[0].text)
        # A refusal is an answer of its own kind, of which the browser takes note; nothing else is.
        assert all("queue/join" in line and "422" in line for line in hand.said())

        hand.write("steps", "1000000000")
        hand.press()
        hand.wait(lambda: hand.state()[0] == "no")
        hand.all("#stop")[0].click()
        hand.wait(lambda: [p.text for p in hand.all(".problem")] == ["Stopped.", "Stopped."])

        browser.set_window_size(390, 900)
        width = "return [document.documentElement.scrollWidth, window.innerWidth]"
        wide, room = browser.execute_script(width)
        assert wide <= room
        assert hand.asked() == set()


@pytest.mark.slow
def test_what_would_leave_the_page_is_held_back_and_seen(run: Run, browser: Any) -> None:
    """The tests above would see an error and a request, were there any."""
    with served([run]) as address:
        hand = Hand(browser, address)
        browser.execute_script(
            "console.error('hm'); fetch('http://outside.invalid/').catch(_ => 0)"
        )
        said = hand.wait(hand.said)
        assert any("hm" in line for line in said)
        assert any("Content Security Policy" in line for line in said)
        hand.address = f"{address}theme.css"
        assert address in hand.asked()  # as what is not the stylesheet's
