"""Corpora from the Hugging Face hub, through `datasets`; its scripts are never run."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from unmask.base.errors import UserError
from unmask.base.hub import loading
from unmask.base.paths import exists
from unmask.data.documents import Document, Documents, Shard, Shards, Source, digest
from unmask.data.records import PLAIN, Fields


@dataclass(frozen=True)
class HubOptions:
    """Which part of which dataset is read.

    Attributes:
        name: the dataset, as on the hub, or a local folder that `datasets` can load.
        config: its configuration, if it has several.
        split: the training documents.
        valid: the validation documents; without it, some of the training ones are held out.
        field: where a row's text is.
        revision: a commit, tag or branch.
        data_dir: the folder of the dataset that is read, if not all of it.
    """

    name: str
    config: str | None = None
    split: str = "train"
    valid: str | None = None
    field: str = "text"
    revision: str | None = None
    data_dir: str | None = None


_PARQUET = "refs/convert/parquet"
"""The hub's own conversion of a dataset that is a script, and scripts are never run."""


def _on_hub(name: str, **options: str) -> dict[str, str]:
    return {"name": name, **options}


_PAPERS = {"valid": "validation", "field": "article", "revision": _PARQUET}

PRESETS: dict[str, dict[str, str]] = {
    "text8": _on_hub("afmck/text8", valid="validation"),
    "wikitext-2": _on_hub("Salesforce/wikitext", config="wikitext-2-raw-v1", valid="validation"),
    "wikitext-103": _on_hub(
        "Salesforce/wikitext", config="wikitext-103-raw-v1", valid="validation"
    ),
    "lm1b": _on_hub("dvruette/lm1b", valid="test"),
    "openwebtext": _on_hub("Skylion007/openwebtext"),
    "fineweb-edu": _on_hub("HuggingFaceFW/fineweb-edu", config="sample-10BT"),
    "tinystories": _on_hub("roneneldan/TinyStories", valid="validation"),
    "ptb": _on_hub(
        "ptb-text-only/ptb_text_only", valid="validation", field="sentence", revision=_PARQUET
    ),
    "lambada": _on_hub("EleutherAI/lambada_openai", config="default", split="test"),
    "ag-news": _on_hub("fancyzhx/ag_news", valid="test"),
    "pubmed": _on_hub("armanc/scientific_papers", data_dir="pubmed", **_PAPERS),
    "arxiv": _on_hub("armanc/scientific_papers", data_dir="arxiv", **_PAPERS),
}
"""The corpora of the hub that have a name: fields of `HubOptions`. A new one is one entry."""


def open_hub(options: HubOptions, spec: str, quiet: bool, fields: Fields = PLAIN) -> Source:
    """Load a dataset (from the hub, its cache, or a local folder) and open its splits.

    Args:
        options: what to load.
        spec: what the user called it.
        quiet: hide the progress bars of `datasets`.
        fields: which are read of a record, but for the one that the options name.

    Raises:
        UserError: it cannot be loaded, or has no such config, split or field.
    """
    fields = replace(fields, text=options.field)
    train = _split(options, options.split, spec, quiet, fields)
    valid = _split(options, options.valid, spec, quiet, fields) if options.valid else None
    return Source(train, valid)


def hub_shards(options: HubOptions, spec: str, quiet: bool, fields: Fields = PLAIN) -> Shards:
    """Open a dataset as a stream, of which nothing is kept on disk.

    Raises:
        UserError: as `open_hub`.
    """
    fields = replace(fields, text=options.field)
    builder = _builder(options, quiet)
    train = _stream(builder, options, options.split, quiet, fields)
    valid = _stream(builder, options, options.valid, quiet, fields) if options.valid else ()
    which = asdict(options) | {"revision": _state(builder, options.name)}
    identity = digest("hf shards", 2, which, len(train), len(valid), *fields.key)
    return Shards(spec, identity, train, valid)


def _state(builder: Any, name: str) -> Any:
    """What tells one state of a dataset from another: its commit; of a folder names and sizes."""
    if not exists(name):
        return builder.hash
    files = [Path(file) for of in (builder.config.data_files or {}).values() for file in of]
    return [[os.path.relpath(file, name), file.stat().st_size] for file in files]


def _stream(
    builder: Any, options: HubOptions, split: str, quiet: bool, fields: Fields
) -> tuple[Shard, ...]:
    with _loading(options, split, quiet):
        rows = builder.as_streaming_dataset(split=split)
        names = rows.column_names or list(next(iter(rows.take(1)), {}))
    columns = fields.columns(names, f"the dataset {options.name!r}")
    n = rows.num_shards
    names = [f"the dataset {options.name!r}, split {split}, shard {k + 1} of {n}" for k in range(n)]
    return tuple(
        Shard(name, partial(_shard_texts, rows.shard(n, k), columns, fields, name))
        for k, name in enumerate(names)
    )


def _shard_texts(rows: Any, columns: list[str], fields: Fields, name: str) -> Iterator[Document]:
    number = 0
    try:
        for row in _rows(rows, columns, 100):
            number += 1
            yield fields.document(row, f"{name}, row {number}")
    except UserError:
        raise
    except Exception as error:  # the network and the formats raise a great many kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{name} cannot be read after row {number}: {reason}") from error


def _split(options: HubOptions, split: str, spec: str, quiet: bool, fields: Fields) -> Documents:
    rows = _loaded(options, split, quiet)
    columns = fields.columns(rows.column_names, f"the dataset {options.name!r}")
    said = {key: value for key, value in asdict(options).items() if value or key != "data_dir"}
    # as before there was a data_dir
    identity = digest("hf", 1, said, split, rows._fingerprint, *fields.key)
    number = 0

    def read() -> Iterator[Document]:
        nonlocal number
        for number, row in enumerate(_rows(rows, columns, 1000), 1):
            yield fields.document(row, f"{rows.info.dataset_name}, row {number}")

    name = f"split {split} of {spec}"
    return Documents(name, identity, read, lambda: number / max(len(rows), 1))


def _loaded(options: HubOptions, split: str, quiet: bool) -> Any:
    import datasets  # noqa: PLC0415

    with _loading(options, split, quiet):
        return datasets.load_dataset(options.name, split=split, **_arguments(options))


def _builder(options: HubOptions, quiet: bool) -> Any:
    import datasets  # noqa: PLC0415

    with _loading(options, options.split, quiet):
        return datasets.load_dataset_builder(options.name, **_arguments(options))


def _arguments(options: HubOptions) -> dict[str, str | None]:
    """What `datasets` calls them."""
    return {
        "name": options.config,
        "revision": options.revision,
        "data_dir": options.data_dir,
    }


@contextmanager
def _loading(options: HubOptions, split: str, quiet: bool) -> Iterator[None]:
    config = f" and config {options.config}" if options.config else ""
    what = f"split {split}{config} of the dataset"
    with loading(options.name, what, "a dataset of the hub, or files, as a path"), _bars(quiet):
        yield


def _rows(rows: Any, columns: list[str], at_a_time: int) -> Iterator[dict[str, Any]]:
    for batch in rows.select_columns(columns).iter(batch_size=at_a_time):
        for values in zip(*(batch[column] for column in columns), strict=True):
            yield dict(zip(columns, values, strict=True))


@contextmanager
def _bars(quiet: bool) -> Iterator[None]:
    import datasets  # noqa: PLC0415

    change = quiet and datasets.is_progress_bar_enabled()
    if change:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if change:
            datasets.enable_progress_bars()
