"""Generated requests and texts: each ends well, or with one `UserError`, in a bounded time.

`test_odd_input.py` has the odd values; here many fields, whole recipes and whole files are made up.
"""

import bz2
import csv
import gzip
import io
import json
import lzma
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from test_odd_input import DONE, SMALL, VALUES, contents, holds
from unmask.base.errors import UserError
from unmask.config import Config, load_config, save_config
from unmask.data.blocks import Blocks
from unmask.data.config import CorpusConfig
from unmask.data.files import open_files
from unmask.data.load import load_data
from unmask.diffusion.masking import MASKINGS
from unmask.diffusion.time import TIME_DISTRIBUTIONS
from unmask.recipe.parse import RECIPES, parse_recipe
from unmask.train.batch import draw_batches
from unmask.train.config import TrainConfig

THOROUGH = settings.default.max_examples >= 100
SECONDS = 60
"""That no example may take."""


T = TypeVar("T")


def many(thorough: int, quick: int) -> settings:
    """So many examples in the slow run, and in the quick one."""
    health = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(max_examples=thorough if THOROUGH else quick, suppress_health_check=health)


@contextmanager
def in_time() -> Iterator[None]:
    """What hangs is an error."""

    def late(_: int, __: FrameType | None) -> None:
        raise AssertionError(f"not done in {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def made(make: Callable[[], T]) -> T | None:
    """What is made; None where it ends with a `UserError` that says something short."""
    try:
        with in_time():
            return make()
    except UserError as error:
        assert 0 < len(str(error)) < 6000
        return None


# --- configurations ---------------------------------------------------------------------------

SCALARS = st.one_of(
    st.integers(-3, 300),
    st.floats(),
    st.booleans(),
    st.none(),
    st.sampled_from(["auto", "cpu", "adamw", "muon", "bytes", "bpe:300", "wrap", "pad", "bf16"]),
    st.sampled_from(["cosine", "wsd", "reverse", "bell", "fast", "standard", "bell:auto", "text8"]),
    VALUES,
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner),
    max_leaves=4,
)
FITTING = {
    int: st.integers(1, 64),
    float: st.floats(0.001, 0.99),
    bool: st.booleans(),
    type(None): st.none(),
}


def values_of(section: type[BaseModel]) -> st.SearchStrategy[dict[str, Any]]:
    """Some fields of a section, most of them with values of their type."""
    fields = {}
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            fields[name] = values_of(kind)
        else:
            fitting = FITTING.get(kind, st.just(field.get_default(call_default_factory=True)))
            fields[name] = st.one_of(fitting, fitting, fitting, fitting, TREES)
    return st.fixed_dictionaries({}, optional=fields)


@many(300, 15)
@given(values=values_of(Config) | st.dictionaries(st.text(max_size=4), TREES, max_size=3))
def test_a_configuration_of_many_fields(values: dict[str, Any], tmp_path: Path) -> None:
    path, again = tmp_path / "made.yaml", tmp_path / "again.yaml"
    path.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    before = path.read_bytes()
    config = made(lambda: load_config(path))
    assert path.read_bytes() == before
    if config is not None:
        save_config(config, again)
        assert load_config(again) == config


# --- recipes ----------------------------------------------------------------------------------

NUMBERS = st.one_of(
    st.floats(0, 1).map(str),
    st.floats().map(str),
    st.integers(-2, 40).map(str),
    st.sampled_from(["1e-9", "-0.0", "true", "false", "½", ""]),
)
POINTS = st.builds("{}@{}".format, NUMBERS, NUMBERS)
KEYS = {
    **dict.fromkeys(["mean", "std", "low", "high", "alpha", "beta", "loc", "scale"], NUMBERS),
    **dict.fromkeys(["neighbours", "length", "paired", "stratified"], NUMBERS),
    "time": st.sampled_from([*TIME_DISTRIBUTIONS, "x"]),
    "masking": st.sampled_from([*MASKINGS, "x"]),
    "weight": st.sampled_from(["1/t", "flat", "1/(t p(t))", "unbiased", "x"]),
    "fit": st.sampled_from(["none", "progress", "least-variance-window", "root-mean-square"]),
    "mix": st.sampled_from(["batch", "steps", "x"]),
    **dict.fromkeys(
        ["next-token", "uniform", "standard"],
        NUMBERS | st.lists(POINTS, min_size=1, max_size=3).map("/".join),
    ),
}
ITEMS = st.sampled_from(sorted(KEYS)).flatmap(
    lambda key: KEYS[key].map(lambda value: f"{key}={value}")
)
RECIPE_TEXTS = st.one_of(
    st.builds(
        lambda name, items: f"{name}:{','.join(items)}" if items else name,
        st.sampled_from(sorted(RECIPES)),
        st.lists(ITEMS, max_size=3, unique_by=lambda item: item.partition("=")[0]),
    ),
    st.text("bel:=,@/.0123 \n-~", max_size=20),
    st.builds("{}{}".format, st.sampled_from(sorted(RECIPES)), VALUES),
)


@many(400, 15)
@given(text=RECIPE_TEXTS, step=st.integers(0, 9), size=st.integers(1, 6))
def test_a_recipe_is_drawn_from_or_refused(text: str, step: int, size: int) -> None:
    tokens = np.arange(20 * 12, dtype=np.uint16).reshape(20, 12)
    blocks = Blocks(tokens, None, tokens.size, tokens.size)
    config, cpu = TrainConfig(batch_size=size, steps=10), torch.device("cpu")
    recipe = made(lambda: parse_recipe(text))
    if recipe is None:
        return
    assert parse_recipe(recipe.spec()) == recipe
    if made(lambda: recipe.check_batch_size(size) is None) is None:
        return
    observers, rows = recipe.observers(cpu), 0
    with in_time():
        drawn = draw_batches(
            recipe, blocks, config, seed=0, step=step, device=cpu, observers=observers
        )
        for batch in drawn:
            rows += len(batch.x)
            assert batch.mask.shape == batch.x.shape and batch.mask.dtype == torch.bool
            assert batch.weights.isfinite().all() and ((batch.t >= 0) & (batch.t <= 1)).all()
    assert rows == size


# --- files ------------------------------------------------------------------------------------

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
RECORD = st.fixed_dictionaries({"text": TEXTS, "n": TEXTS}, optional={"m": JSON})
RECORDS = st.lists(RECORD, min_size=1, max_size=6) | st.lists(RECORD | JSON, max_size=4)


def as_csv(rows: list[list[str]]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out).writerows(rows)
    return out.getvalue().encode()


def as_parquet(column: tuple[Any, list[Any]], name: str) -> bytes:
    kind, values = column
    out = io.BytesIO()
    table = pyarrow.table({name: pyarrow.array(values, kind), "n": list(range(len(values)))})
    pyarrow.parquet.write_table(table, out, row_group_size=2)
    return out.getvalue()


COLUMNS = st.one_of(
    *(
        st.tuples(st.just(kind), st.lists(st.none() | values, max_size=5))
        for kind, values in [
            (pyarrow.string(), TEXTS),
            (pyarrow.large_string(), TEXTS),
            (pyarrow.binary(), st.binary(max_size=9)),
            (pyarrow.dictionary(pyarrow.int8(), pyarrow.string()), st.sampled_from("abc")),
            (pyarrow.int64(), st.integers(-9, 9)),
            (pyarrow.list_(pyarrow.string()), st.lists(TEXTS, max_size=2)),
            (pyarrow.struct([("text", pyarrow.string())]), st.fixed_dictionaries({"text": TEXTS})),
        ]
    )
)
PLAIN = {
    ".txt": st.lists(TEXTS).map("\n".join).map(str.encode),
    ".json": RECORDS.map(json.dumps).map(str.encode),
    ".jsonl": RECORDS.map(lambda rows: "\n".join(map(json.dumps, rows)).encode()),
    ".csv": st.builds(
        lambda rows, more: as_csv([["text", "n"], *map(list, rows), *more]),
        st.lists(st.tuples(TEXTS, TEXTS), max_size=4),
        st.just([]) | st.lists(st.lists(TEXTS, min_size=1, max_size=3), max_size=1),
    ),
    ".parquet": st.builds(as_parquet, COLUMNS, st.sampled_from(["text", "text", "other"])),
}
PACKED = {
    "": bytes,
    ".gz": lambda data: gzip.compress(data, mtime=0),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pyarrow.compress(data, "zstd", asbytes=True),
}


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes]:
    """A file's name and content: of a format, compressed or not, harmed before or after that."""
    suffix = draw(st.sampled_from(sorted(PLAIN)))
    packings = [*PACKED, *[""] * (20 if suffix == ".parquet" else 1)]  # it is compressed inside
    packing = draw(st.sampled_from(packings))
    data = PACKED[packing](maybe_harmed(draw, draw(PLAIN[suffix])))
    return f"a{suffix}{packing}", maybe_harmed(draw, data)


def maybe_harmed(draw: st.DrawFn, data: bytes) -> bytes:
    """Left alone, cut, with bytes replaced, taken out or put in, or twice."""
    place, end = sorted(draw(st.tuples(*[st.integers(0, len(data))] * 2)))
    odd = draw(st.binary(max_size=6) | st.sampled_from([b"\0", b"\xff\xfe", b'"', b"\r", b"\n"]))
    harms = [data] * 12 + [data[:place], data[:place] + odd + data[place + len(odd) :]]
    harms += [data[:place] + data[end:], data[:place] + odd + data[place:], data * 2]
    return draw(st.sampled_from(harms))


@many(500, 20)
@given(
    file=files(),
    field=st.sampled_from([{}, {}, {}, {}, {}, {"field": "n"}, {"field": "text.text"}]),
    document=st.sampled_from([{}, {"document": "line"}, {"document": "paragraph"}]),
)
def test_a_file_is_read_whole_or_refused(
    file: tuple[str, bytes], field: dict[str, str], document: dict[str, str], tmp_path: Path
) -> None:
    name, data = file
    path = tmp_path / name
    path.write_bytes(data)
    options = document if ".txt" in name else field

    def read() -> list[str]:
        return list(open_files(str(path), options, name).train)

    texts = made(read)
    if texts is not None:
        assert all(isinstance(text, str) for text in texts)
        assert read() == texts
    assert path.read_bytes() == data
    path.unlink()


# --- packing ----------------------------------------------------------------------------------


@many(200, 8)
@given(
    texts=st.lists(st.text("ab é漢\n", max_size=40), min_size=2, max_size=8),
    block_size=st.integers(2, 30),
    packing=st.sampled_from(["wrap", "pad"]),
    transform=st.sampled_from(["none", "reverse", "permute-positions", "shuffle-tokens"]),
    fraction=st.floats(0.05, 0.5),
)
def test_texts_are_packed_or_refused(
    texts: list[str],
    block_size: int,
    packing: str,
    transform: str,
    fraction: float,
    tmp_path: Path,
) -> None:
    place, cache = tmp_path / "a.jsonl", tmp_path / "packed"
    place.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    config = CorpusConfig(
        source=str(place), block_size=block_size, packing=packing,
        valid_fraction=fraction, transform=transform,
    )  # fmt: skip
    data = made(lambda: load_data(config, cache))
    if data is not None:
        kept = [text for text in texts if text]
        assert data.train.n_bytes + data.valid.n_bytes == sum(len(t.encode()) for t in kept)
        for blocks in (data.train, data.valid):
            x, valid = blocks.batch(torch.arange(len(blocks)))
            assert x.shape == (len(blocks), block_size)
            assert ((x >= 0) & (x < data.tokenizer.vocab_size)).all()
            counted = x.numel() if valid is None else int(valid.sum())
            assert counted <= blocks.n_tokens
    shutil.rmtree(cache, ignore_errors=True)


# --- whole runs -------------------------------------------------------------------------------

OPTIONS = {
    "model.layers": st.integers(1, 2),
    "model.width": st.sampled_from([4, 8, 12]),
    "model.heads": st.integers(1, 3),
    "model.late": st.integers(0, 2),
    "corpus.block-size": st.integers(1, 24),
    "corpus.packing": st.sampled_from(["wrap", "pad"]),
    "corpus.tokenizer": st.sampled_from(["bytes", "bpe:260"]),
    "corpus.valid-fraction": st.floats(0.1, 0.5),
    "train.steps": st.integers(1, 4),
    "train.batch-size": st.integers(1, 5),
    "train.accumulation": st.integers(1, 4),
    "train.optimizer": st.sampled_from(["adamw", "muon"]),
    "train.schedule": st.sampled_from(["constant", "cosine", "wsd"]),
    "train.warmup-steps": st.integers(0, 5),
    "train.grad-clip": st.floats(0, 2),
    "train.ema": st.floats(0, 0.9),
    "train.spike": st.floats(0, 9),
    "train.skip": st.integers(0, 2),
    "train.learning-rate": st.floats(1e-6, 1e6),
    "train.log-every": st.integers(1, 3),
    "train.save-every": st.integers(1, 3),
    "train.keep": st.integers(1, 2),
    "validation.every": st.integers(1, 3),
    "validation.blocks": st.integers(2, 5),
    "validation.draws": st.integers(1, 3),
    "validation.batch-size": st.integers(1, 4),
    "seed": st.integers(-9, 2**40),
    "recipe": st.sampled_from(sorted(RECIPES)) | RECIPE_TEXTS,
}


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts") / "texts"
    folder.mkdir()
    for name in "abcdef":
        text = f"{name} cat sat on a mat and saw one big dog run far\n" * 9
        (folder / f"{name}.txt").write_text(text)
    return folder


@many(150, 6)
@given(options=st.fixed_dictionaries({}, optional=OPTIONS))
def test_a_run_of_many_options_trains_and_resumes_or_is_refused(
    options: dict[str, Any], texts: Path
) -> None:
    assume("\0" not in options.get("recipe", ""))
    run = texts.with_name("run")
    shutil.rmtree(run, ignore_errors=True)
    words = [f"--{name}={value}" for name, value in options.items()]
    with in_time():
        status = holds(
            ["train", "--run", str(run), *SMALL, "--corpus.source", str(texts), *words], texts
        )
        if status == DONE:
            steps = options.get("train.steps", 1) + 1
            holds(["train", "--run", str(run), "--resume", "--train.steps", str(steps)], texts)
            holds(["sample", str(run), "--num=1", "--length=1", "--steps=1"], run)


def refuse(said: str) -> None:
    raise UserError(said)


def test_what_the_others_rest_on_can_fail(texts: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        made(lambda: 1 // 0)
    with pytest.raises(AssertionError):
        made(lambda: refuse(""))
    assert made(lambda: refuse("no")) is None and made(lambda: 3) == 3
    before = contents(texts)
    (texts / "a.txt").write_text("other")
    assert contents(texts) != before
