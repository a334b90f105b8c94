"""Where text comes from: named corpora, the Hugging Face hub, or files; one or several.

A source is written ``NAME[:key=value,...]`` or as a path or pattern. A new named corpus is one
entry in `named_sources`, or one entry in `unmask.data.hub.PRESETS` if it is on the hub.

Several are joined by `` + ``. As they are, they are one corpus; where each has a ``weight=``, they
are a mixture: ``a.jsonl:field=body,weight=3 + python-stdlib:weight=1``.
"""

import glob
import hashlib
import io
import math
import re
import sysconfig
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

from unmask.base.errors import UserError, unknown
from unmask.base.paths import exists, looks_like_path, missing_path
from unmask.base.spec import build, parse_options
from unmask.base.wording import counted, listed
from unmask.data.documents import Documents, Shard, Shards, Source, digest
from unmask.data.files import file_formats, file_shards, open_files
from unmask.data.hub import PRESETS, HubOptions, hub_shards, open_hub
from unmask.data.records import PLAIN, Fields
from unmask.data.streams import readable

_BETWEEN = " + "
_WEIGHT = re.compile(r"([:,])weight=([^,]*)(,?)")
_DECIMAL = re.compile(r"\d{1,9}(\.\d{1,9})?", re.ASCII)
_LARGEST = 10**6
_OPTIONS = re.compile(r"(.+?)(?::(\w+=.*))?", re.DOTALL)
_NOT_LIBRARY = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}


@dataclass(frozen=True)
class Share:
    """A part of a mixture; a corpus that is none has one.

    Attributes:
        spec: what the user called it.
        sources: what it is read from, one after another.
        weight: its share of the samples, over the sum of all parts' weights.
    """

    spec: str
    sources: tuple[Source, ...]
    weight: int = 1


@dataclass(frozen=True)
class ShareOfStream:
    """A part of a mixture that is read as a stream; as `Share`."""

    spec: str
    shards: Shards
    weight: int = 1


def open_corpus(
    text: str, quiet: bool = True, field: str = "corpus.source", fields: Fields = PLAIN
) -> list[Share]:
    """Open all sources of a corpus: one share, or those of a mixture.

    Args:
        text: sources as `open_source` takes them, joined by `` + ``.
        quiet: show no progress of downloads.
        field: the configuration's field that it stands in, for messages.
        fields: which are read of a record, but for one that a source names (``field=``).

    Raises:
        UserError: a source cannot be opened, or not every one has a weight.
    """
    return [
        Share(spec, tuple(open_source(one, quiet, field, fields) for one in sources), weight)
        for spec, sources, weight in _parts(text, field)
    ]


def open_shards(
    text: str, quiet: bool = True, field: str = "corpus.source", fields: Fields = PLAIN
) -> list[ShareOfStream]:
    """Open all sources of a corpus as `open_corpus` does, to be read as streams.

    A named corpus that is not of the hub, and a source of another kind, is one shard.

    Raises:
        UserError: as `open_corpus`.
    """
    return [
        ShareOfStream(
            spec, _joined([_shards(one, quiet, field, fields) for one in sources], spec), weight
        )
        for spec, sources, weight in _parts(text, field)
    ]


def _parts(text: str, field: str) -> list[tuple[str, list[str], int]]:
    """What a corpus's parts are called, which sources each has, and its weight."""
    specs = [text] if _BETWEEN not in text or exists(text) else text.split(_BETWEEN)
    split = [_take_weight(spec.strip()) for spec in specs]
    weights = [weight for _, weight in split if weight is not None]
    if weights and (len(split) == 1 or len(weights) < len(split)):
        raise UserError(
            f"{field} {text!r}: weight= is for a mixture; valid: a weight for each of several "
            "sources, or for none"
        )
    if not weights:
        return [(text, [spec for spec, _ in split], 1)]
    whole = _whole(weights, text)
    return [(spec, [spec], weight) for (spec, _), weight in zip(split, whole, strict=True)]


def _take_weight(spec: str) -> tuple[str, str | None]:
    found = _WEIGHT.search(spec)
    if found is None:
        return spec, None
    rest = found[1] if found[3] else ""
    return spec[: found.start()] + rest + spec[found.end() :], found[2]


def _whole(weights: list[str], text: str) -> list[int]:
    """The weights as the smallest whole numbers in the same proportion."""
    for weight in weights:
        if not _DECIMAL.fullmatch(weight) or not Fraction(weight):
            raise UserError(f"{text!r}: weight must be a number above 0, not {weight!r}")
    fractions = [Fraction(weight) for weight in weights]
    scale = math.lcm(*(fraction.denominator for fraction in fractions))
    whole = [int(fraction * scale) for fraction in fractions]
    whole = [weight // math.gcd(*whole) for weight in whole]
    if sum(whole) > _LARGEST:
        raise UserError(f"{text!r}: the weights differ in more than six digits; round them")
    return whole


def open_source(
    spec: str, quiet: bool = True, field: str = "corpus.source", fields: Fields = PLAIN
) -> Source:
    """Open the source that ``spec`` names; its documents are read later.

    Args:
        spec: ``NAME[:key=value,...]``, ``hf:NAME[:key=value,...]``, or a path or pattern, which may
            be followed by ``:key=value,...``. A name wins over a file called the same (``./NAME``).
        quiet: show no progress of downloads.
        field: the configuration's field that it stands in, for messages.
        fields: which are read of a record, but for the one that the options name.

    Raises:
        UserError: there is no such source, its options are wrong, or it has no records and so no
            prompts.
    """
    name, _, rest = spec.partition(":")
    names = named_sources()
    if name in names and _is_on_hub(name):
        return _hub(PRESETS.get(name, {}), rest, spec, quiet, fields)
    if name in names:
        if fields.prompted:
            raise UserError(f"{field}: {name} has no records, and so no prompts")
        return names[name](rest, spec, quiet)
    path, rest = _split_path(spec)
    if exists(path) or glob.has_magic(path):
        return open_files(path, parse_options(rest, spec), spec, fields)
    files = f"files ({file_formats()}), a folder of them or a pattern"
    if looks_like_path(path) or "/" in path or Path(path).suffix:
        raise missing_path(field, path, f"{files}; hf:NAME is a dataset of the Hugging Face hub")
    raise UserError(f"{field}: {unknown('source', name, names)} (hf as hf:NAME), or {files}")


def _is_on_hub(name: str) -> bool:
    return name == "hf" or name in PRESETS


def _shards(spec: str, quiet: bool, field: str, fields: Fields) -> Shards:
    name, _, rest = spec.partition(":")
    if _is_on_hub(name):
        return hub_shards(_hub_options(PRESETS.get(name, {}), rest, spec), spec, quiet, fields)
    path, rest = _split_path(spec)
    if name not in named_sources() and (exists(path) or glob.has_magic(path)):
        return file_shards(path, parse_options(rest, spec), spec, fields)
    source = open_source(spec, quiet, field, fields)
    parts = [Shard(part.name, part.read) for part in (source.train, source.valid) if part]
    return Shards(spec, source.train.identity, (parts[0],), tuple(parts[1:]))


def _joined(parts: list[Shards], name: str) -> Shards:
    if len(parts) == 1:
        return parts[0]
    return Shards(
        name=name,
        identity=digest("joined shards", 1, [part.identity for part in parts]),
        train=tuple(shard for part in parts for shard in part.train),
        valid=tuple(shard for part in parts for shard in part.valid),
    )


def _split_path(spec: str) -> tuple[str, str]:
    """Cut where the options begin: a path may hold colons, and one that exists is taken whole."""
    cuts = [len(spec), *(place for place, letter in enumerate(spec) if letter == ":")]
    for cut in cuts:
        if exists(spec[:cut]):
            return spec[:cut], spec[cut + 1 :]
    found = _OPTIONS.fullmatch(spec)
    return (found[1], found[2] or "") if found else (spec, "")


def _standard_library(rest: str, spec: str, quiet: bool) -> Source:
    """Python's own library, as its source files: text that is on every machine."""
    if rest:
        raise UserError(f"{spec!r}: python-stdlib has no options")
    root = Path(sysconfig.get_path("stdlib"))
    contents, files, skipped = [], list[Path](), list[str]()
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        if _NOT_LIBRARY.intersection(name.parts):
            continue
        with readable(path):
            data = path.read_bytes()
        contents.append([name.as_posix(), hashlib.sha256(data).hexdigest()])
        if _python_text(data) is None:
            skipped.append(name.as_posix())
        else:
            files.append(path)
    identity = digest("python-stdlib", 1, contents)
    left = f", {len(skipped)} of a wrong encoding skipped ({listed(skipped, 3)})" if skipped else ""
    summary = f"{counted(len(files), 'file')}{left}"
    return Source(Documents(spec, identity, partial(_python_files, files)), summary=summary)


def _python_files(files: list[Path]) -> Iterator[str]:
    for path in files:
        with readable(path):
            text = _python_text(path.read_bytes())
        if text is None:
            raise UserError(f"{path} has changed since reading began; start again")
        yield text


def _python_text(data: bytes) -> str | None:
    """A source file in the encoding that it declares; None if it is not in that."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return io.TextIOWrapper(io.BytesIO(data), encoding).read()
    except (SyntaxError, UnicodeDecodeError):
        return None  # a sample of a wrong encoding, kept in the library on purpose


def _hub(
    preset: dict[str, str], rest: str, spec: str, quiet: bool, fields: Fields = PLAIN
) -> Source:
    return open_hub(_hub_options(preset, rest, spec), spec, quiet, fields)


def _hub_options(preset: dict[str, str], rest: str, spec: str) -> HubOptions:
    """Which dataset of the hub is meant; one without a preset is named before its options."""
    if not preset:
        name, _, rest = rest.partition(":")
        if not name:
            raise UserError(f"{spec!r} names no dataset; write hf:NAME or hf:NAME:split=train,...")
        preset = {"name": name}
    options = parse_options(rest, spec)
    if "name" in options:
        raise UserError(f"{spec!r}: the dataset's name is not an option; write hf:NAME")
    return build(HubOptions, {**preset, **options}, f"corpus {spec!r}")


def named_sources() -> dict[str, Callable[[str, str, bool], Source]]:
    """What opens the corpora that have a name: (options, the whole spec, quiet) -> the corpus."""
    return {
        "python-stdlib": _standard_library,
        **{name: partial(_hub, preset) for name, preset in PRESETS.items()},
        "hf": partial(_hub, {}),
    }
