"""Where text comes from: named corpora, the Hugging Face hub, or files.

A source is written ``NAME[:key=value,...]`` or as a path. A new named corpus is one entry in
`SOURCES`, or one row in `unmask.data.hub.PRESETS` if it is on the hub.
"""

import sysconfig
import tokenize
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from unmask.base.errors import UserError
from unmask.base.files import sha256_of
from unmask.base.spec import build, parse_options
from unmask.data.documents import Documents, Source, digest
from unmask.data.files import FILE_KINDS, open_path
from unmask.data.hub import PRESETS, HubOptions, open_hub

_NOT_LIBRARY = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}


def open_source(spec: str, quiet: bool = True, field: str = "corpus.source") -> Source:
    """Open the corpus that ``spec`` names; its documents are read later.

    Args:
        spec: ``NAME[:key=value,...]``, ``hf:NAME[:key=value,...]`` or a path, which may be
            followed by ``:key=value,...``. A name wins over a file called the same (``./NAME``).
        quiet: show no progress of downloads.
        field: the configuration's field that it stands in, for messages.

    Raises:
        UserError: there is no such source, or its options are wrong.
    """
    name, _, rest = spec.partition(":")
    if name in SOURCES:
        return SOURCES[name](rest, spec, quiet)
    path, rest = _split_path(spec)
    if spec and path.exists():  # Path("") is the folder one is in
        return open_path(path, parse_options(rest, spec), spec)
    valid = (
        f"valid: {', '.join(SOURCES)} (hf as hf:NAME, a dataset of the Hugging Face hub), "
        f"or a path to files ({FILE_KINDS}) or a folder of them"
    )
    looks_like_path = "/" in name or "\\" in name or Path(name).suffix
    kind = "no file or folder" if looks_like_path else "unknown source"
    raise UserError(f"{field}: {kind} {name!r}; {valid}")


def _split_path(spec: str) -> tuple[Path, str]:
    """Cut at the first colon before which there is a path that exists; paths may hold colons."""
    cuts = [len(spec), *(place for place, letter in enumerate(spec) if letter == ":")]
    for cut in cuts:
        if Path(spec[:cut]).exists() and spec[:cut]:
            return Path(spec[:cut]), spec[cut + 1 :]
    return Path(spec), ""


def _standard_library(rest: str, spec: str, quiet: bool) -> Source:
    """Python's own library, as its source files: text that is on every machine."""
    if rest:
        raise UserError(f"{spec!r}: python-stdlib has no options")
    root = Path(sysconfig.get_path("stdlib"))
    files = [
        path
        for path in sorted(root.rglob("*.py"))
        if not _NOT_LIBRARY.intersection(path.relative_to(root).parts)
    ]
    contents = [[path.relative_to(root).as_posix(), sha256_of(path)] for path in files]
    identity = digest("python-stdlib", 1, contents)
    return Source(Documents(spec, identity, partial(_python_files, files)))


def _python_files(files: list[Path]) -> Iterator[str]:
    for path in files:
        try:
            with tokenize.open(path) as file:  # reads the encoding that the file declares
                yield file.read()
        except (SyntaxError, UnicodeDecodeError):
            continue  # a sample of a wrong encoding, kept in the library on purpose


def _hub(rest: str, spec: str, quiet: bool) -> Source:
    name, _, options = rest.partition(":")
    if not name:
        raise UserError(f"{spec!r} names no dataset; write hf:NAME or hf:NAME:split=train,...")
    chosen = build(HubOptions, {"name": name, **_no_name(options, spec)}, f"corpus {spec!r}")
    return open_hub(chosen, spec, quiet)


def _preset(preset: dict[str, str], rest: str, spec: str, quiet: bool) -> Source:
    chosen = build(HubOptions, {**preset, **_no_name(rest, spec)}, f"corpus {spec!r}")
    return open_hub(chosen, spec, quiet)


def _no_name(rest: str, spec: str) -> dict[str, str]:
    options = parse_options(rest, spec)
    if "name" in options:
        raise UserError(f"{spec!r}: the dataset's name is not an option; write hf:NAME")
    return options


SOURCES: dict[str, Callable[[str, str, bool], Source]] = {
    "python-stdlib": _standard_library,
    **{name: partial(_preset, preset) for name, preset in PRESETS.items()},
    "hf": _hub,
}
