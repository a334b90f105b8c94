"""What cannot be had from the hub is told at once, and why."""

import socket
import time

import pytest
from huggingface_hub import constants

from unmask.base.errors import UserError
from unmask.base.hub import loading, reachable


@pytest.fixture(autouse=True)
def unasked(monkeypatch):
    """No answer is kept from test to test; none opens a connection by itself."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    reachable.cache_clear()
    yield
    reachable.cache_clear()


@pytest.fixture
def asked(monkeypatch) -> list:
    """The addresses that were connected to; none answers."""
    addresses = []

    def refuse(address, timeout):
        addresses.append(address)
        raise OSError("unreachable")

    monkeypatch.setattr(socket, "create_connection", refuse)
    return addresses


def problem(name: str, seen: list | None = None) -> str:
    with pytest.raises(UserError) as caught, loading(name, "model", "a name"):
        if seen is not None:
            seen.append(constants.HF_HUB_OFFLINE)
        raise OSError("not found\nand much more")
    return str(caught.value)


def test_without_a_network_the_libraries_look_in_their_caches_alone(asked):
    seen = []
    message = problem("owner/name", seen)
    assert seen == [True] and constants.HF_HUB_OFFLINE is False
    assert message.startswith("cannot load model 'owner/name': not found (")
    assert "cannot be reached" in message and "HF_HUB_OFFLINE=1" in message
    assert len(asked) == 1 and asked[0][1] == 443
    problem("owner/other")
    assert len(asked) == 1  # once in a process


def test_a_name_that_never_resolves_takes_seconds(monkeypatch):
    def wait(*_, timeout):
        time.sleep(30)
        raise OSError

    monkeypatch.setattr("unmask.base.hub._PATIENCE", 0.2)
    monkeypatch.setattr(socket, "create_connection", wait)
    start = time.monotonic()
    assert not reachable()
    assert time.monotonic() - start < 5


def test_where_it_is_reached_nothing_is_changed(monkeypatch):
    monkeypatch.setattr("unmask.base.hub.reachable", lambda: True)
    seen = []
    message = problem("owner/name", seen)
    assert seen == [False]
    assert "reached" not in message and "OFFLINE" not in message


def test_set_offline_is_named_and_nothing_is_asked(monkeypatch, asked):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in problem("owner/name")
    assert asked == []


def test_a_proxy_is_what_is_asked(monkeypatch, asked):
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    assert not reachable()
    assert asked == [("proxy.example", 3128)]


def test_a_mistyped_path_is_never_looked_for_on_the_hub(asked, tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(UserError, match="did you mean") as caught:  # noqa: SIM117
        with loading(str(tmp_path / "modle"), "judge", "a folder"):
            pytest.fail("it was loaded")
    assert str(tmp_path / "model") in str(caught.value)
    assert asked == []


def test_a_folder_that_is_there_needs_no_hub(asked, tmp_path):
    message = problem(str(tmp_path))
    assert "not found" in message and "reached" not in message
    assert asked == []


def test_our_own_errors_pass(tmp_path):
    with pytest.raises(UserError, match=r"^mine$"), loading(str(tmp_path), "x", "y"):
        raise UserError("mine")
