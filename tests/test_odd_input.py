"""Odd files, names and values: success or one clear error, no traceback, no changed input.

Each example runs the command line in this process, on a network of one layer of width 8.
"""

import contextlib
import gzip
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from unmask.base.files import sha256_of
from unmask.cli import main
from unmask.config import Config

TEXT = "the cat sat on a mat and saw one big dog run far\n" * 12
SMALL = [
    *("--corpus.block-size", "16", "--corpus.valid-fraction", "0.5"),
    *("--model.layers", "1", "--model.width", "8", "--model.heads", "1"),
    *("--train.steps", "1", "--train.batch-size", "2", "--train.optimizer", "adamw"),
    *("--train.device", "cpu", "--train.precision", "fp32", "--recipe", "standard"),
    *("--validation.blocks", "2", "--validation.draws", "1", "--validation.every", "1"),
]
DONE, BAD_INPUT, TRAINING_FAILED = 0, 2, 3

THOROUGH = settings.default.max_examples >= 100
MANY = settings(
    max_examples=200 if THOROUGH else 10,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a corpus ``texts``, a run ``run`` and the folder ``new``, where one is."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "texts").mkdir()
    for name in "abcdef":
        (folder / "texts" / f"{name}.txt").write_text(name + TEXT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNMASK_CACHE", str(folder / "cache"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.chdir(folder)
        arguments = ["train", "--run", "run", "--corpus.source", "texts", *SMALL]
        assert command(arguments)[0] == DONE
        yield folder


def command(arguments: list[str]) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of ``unmask ARGUMENTS``."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="") for _ in range(2)]
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        try:
            status = main(arguments)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
    texts = []
    for stream in streams:
        stream.flush()
        texts.append(stream.buffer.getvalue().decode())  # type: ignore[attr-defined]
    return status, *texts


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): sha256_of(path) if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
    }


def holds(arguments: list[str], *unchanged: Path) -> int:
    """The command ends well or with one clear error, and these folders stay as they are."""
    before = [contents(folder) for folder in unchanged]
    status, out, err = command(arguments)
    assert status in (DONE, BAD_INPUT, TRAINING_FAILED), (status, out, err)
    assert "Traceback" not in out + err
    if status != DONE:
        assert err.strip(), "an error is told"
        assert len(err) < 6000, "and it is short"
    if status == TRAINING_FAILED:
        assert "training failed: " in err
    assert [contents(folder) for folder in unchanged] == before
    return status


def train(home: Path, *options: str) -> int:
    """One step in a new folder, which a refused request leaves out of being."""
    new = home / "new"
    shutil.rmtree(new, ignore_errors=True)
    status = holds(["train", "--run", str(new), *SMALL, *options], home / "texts", home / "run")
    assert status != BAD_INPUT or not new.exists() or not any(new.iterdir())
    return status


def options_of(section: type[BaseModel], prefix: str = "--") -> Iterator[str]:
    for name, field in section.model_fields.items():
        flag = f"{prefix}{name.replace('_', '-')}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from options_of(field.annotation, f"{flag}.")
        else:
            yield flag


# What some field takes as a number is small, so that no example does much work.
ODD = st.sampled_from(
    [
        *(
            "",
            " ",
            "0",
            "-1",
            "1",
            "2",
            "3",
            "-0",
            "+1",
            "1.5",
            "0.5",
            "1.0",
            "1e3x",
            ".5",
            "1.",
            "e",
        ),
        *("yes", "no", "true", "True", "null", "None", "~", "none", "auto", "nan", "inf", "-inf"),
        *("1e-310", "1e999", "-1e999", "1e-3", "010", "0x10", "1_0", "1:30", "٣", "²", "½", "１"),
        *("9" * 30, "9" * 5000, "-" + "9" * 5000, "9223372036854775808", "18446744073709551616"),
        *("[1]", "{a: 1}", "&a", "*a", "!!int 1", "a: b", "#", "%s", "{}", "{0}", "[bold]", "[/]"),
        *("-", "--", "---", "=", ":", ",", "+", "@", "*", "?", "/", "\\", ".", "..", "~", "$HOME"),
        *("\n", "\t", "\r", "\x07", "\x1b[31m", "\u202e", "\ufeff", "é", "漢", "😀", ":smile:"),
    ]
)
VALUES = ODD | st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6
)
NAMES = VALUES.filter(lambda name: name not in (".", "..", "/", "~", "") and "/" not in name)
RECIPES = st.builds(
    lambda name, key, value: f"{name}:{key}={value}",
    st.sampled_from(["bell", "standard", "fast", "flat", "ar", "clipped", "adaptive", "x"]),
    st.sampled_from(
        ["mean", "std", "low", "high", "time", "masking", "weight", "paired", "fit", ""]
    ),
    VALUES,
)
OPTIONS = sorted(
    {*options_of(Config)} - {"--corpus.source", "--corpus.valid-source", "--train.compile"}
)


@settings(MANY, max_examples=600 if THOROUGH else 10)
@given(option=st.sampled_from(OPTIONS), value=VALUES)
def test_training_with_an_odd_value(home: Path, option: str, value: str) -> None:
    train(home, "--corpus.source", "texts", f"{option}={value}")


@MANY
@given(recipe=RECIPES)
def test_training_with_an_odd_recipe(home: Path, recipe: str) -> None:
    train(home, "--corpus.source", "texts", f"--recipe={recipe}")


CONFIGURATIONS = st.one_of(
    st.builds(
        lambda section, key, value: f"{section}:\n  {key}: {value}\n",
        st.sampled_from(["corpus", "model", "train", "validation", "seed", "recipe", "x"]),
        st.sampled_from(["steps", "width", "seed", "blocks", "log_to", "tokenizer", "ema", "x"]),
        VALUES.filter(lambda value: value not in ("2", "3")),
    ),
    st.text("abct:{}[]-&*!|>'\"%@#, \n1", max_size=40),
    st.sampled_from(["", "seed:", "train:", "seed: 0\nseed: 0", "[" * 3000, "a: &a [*a]", "--- 1"]),
).map(str.encode) | st.binary(max_size=30)


@MANY
@given(content=CONFIGURATIONS)
def test_training_with_an_odd_configuration(home: Path, content: bytes) -> None:
    (home / "odd.yaml").write_bytes(content)
    train(home, "--corpus.source", "texts", "--config", "odd.yaml")
    assert (home / "odd.yaml").read_bytes() == content


def harmed(content: bytes) -> st.SearchStrategy[bytes]:
    """A file cut short, with a stretch replaced, or doubled."""
    places = st.integers(0, len(content))
    return st.one_of(
        places.map(lambda n: content[:n]),
        st.builds(
            lambda n, x: content[:n] + x + content[n + len(x) :], places, st.binary(max_size=9)
        ),
        st.just(content * 2),
    )


LINES = "".join(f'{{"text": "{line} {number}"}}\n' for number, line in enumerate(TEXT.splitlines()))
KINDS = {
    "a.txt": TEXT.encode(),
    "a.TXT": TEXT.encode("utf-16"),
    "a.jsonl": LINES.encode(),
    "b.jsonl": ('{"n": ' + "9" * 5000 + ', "text": "a"}\n' + LINES).encode(),
    "c.jsonl": ('{"n": ' + "[" * 9999 + ', "text": "a"}\n' + LINES).encode(),
    "a.jsonl.gz": gzip.compress(LINES.encode(), mtime=0),
    "a.parquet": b"PAR1" + bytes(30) + b"PAR1",
    "a.dat": TEXT.encode(),
}
FILES = st.sampled_from(sorted(KINDS)).flatmap(
    lambda name: st.tuples(st.just(name), st.just(KINDS[name]) | harmed(KINDS[name]) | st.binary())
)


@MANY
@given(file=FILES)
def test_training_and_evaluating_on_an_odd_file(home: Path, file: tuple[str, bytes]) -> None:
    name, content = file
    folder = home / "odd"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / name).write_bytes(content)
    train(home, "--corpus.source", f"odd/{name}")
    source = ("--corpus.source", "odd", "--draws", "2", "--device", "cpu")
    holds(["evaluate", "run", "--json", *source], home / "run", folder)
    assert (folder / name).read_bytes() == content


@MANY
@given(name=NAMES, kind=st.sampled_from(["file", "run", "typo"]))
def test_odd_names(home: Path, name: str, kind: str) -> None:
    """Of corpora, runs, and of neither."""
    place = home / "names"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    if len(name.encode()) > 200:
        kind = "typo"
    elif kind == "file":
        (place / name).write_bytes(TEXT.encode())
    elif kind == "run":
        shutil.copytree(home / "run", place / name)
    here = contents(place)
    for arguments in (
        ["sample", f"names/{name}", "--num=1", "--length=4", "--steps=1", "--device=cpu"],
        ["evaluate", f"names/{name}", "--json", "--draws=1", "--device=cpu"],
        ["evaluate", "run", "--json", "--draws=1", "--device=cpu", f"--corpus.source=names/{name}"],
        ["train", *SMALL, "--run", f"names/{name}", "--resume"],
    ):
        status = holds(arguments, home / "run")
        if arguments[0] == "train" and kind != "run":
            assert status == BAD_INPUT
    if kind != "run":  # a finished run that is resumed may be written again
        assert contents(place) == here
    train(home, f"--corpus.source=names/{name}")


SAMPLING = ["num", "length", "sampler", "steps", "temperature", "top-p", "top-k", "block-length",
            "seed", "checkpoint", "device", "prompt", "infill", "infill-file"]  # fmt: skip
EVALUATING = ["checkpoint", "draws", "seed", "estimator", "batch-size", "budget", "device",
              "precision", "detokenize", "corpus.block-size", "corpus.packing"]  # fmt: skip


@MANY
@given(
    option=st.sampled_from(SAMPLING),
    value=VALUES | st.builds("a[MASK*{}]b".format, VALUES),
)
def test_sampling_with_an_odd_value(home: Path, option: str, value: str) -> None:
    small = ["--num=1", "--length=4", "--steps=2", "--device=cpu"]
    small = [text for text in small if not text.startswith(f"--{option}=")]
    holds(["sample", "run", *small, f"--{option}={value}"], home / "run", home / "texts")


@MANY
@given(option=st.sampled_from(EVALUATING), value=VALUES)
def test_evaluating_with_an_odd_value(home: Path, option: str, value: str) -> None:
    small = [] if option == "draws" else ["--draws=2"]
    holds(["evaluate", "run", *small, f"--{option}={value}"], home / "run", home / "texts")


RUN_FILES = [
    "config.yaml",
    "corpus.json",
    "metrics.jsonl",
    "blocks.jsonl",
    "tokenizer/unmask.json",
    "checkpoints/step-00000001/checkpoint.json",
    "checkpoints/step-00000001/model.safetensors",
    "checkpoints/step-00000001/optimizer.safetensors",
]


@MANY
@given(data=st.data(), name=st.sampled_from(RUN_FILES))
def test_a_damaged_run(home: Path, data: st.DataObject, name: str) -> None:
    run = home / "damaged"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(home / "run", run)
    if data.draw(st.booleans()):
        (run / name).unlink()
    else:
        (run / name).write_bytes(data.draw(harmed((run / name).read_bytes()) | st.binary()))
    holds(["sample", "damaged", "--num=1", "--length=4", "--steps=1", "--device=cpu"], run)
    holds(["evaluate", "damaged", "--json", "--draws=2", "--device=cpu"], run)
    before = contents(run)
    if holds(["train", "--run", "damaged", "--resume", "--train.steps", "2"]) == BAD_INPUT:
        assert contents(run) == before


def test_an_example_can_fail(home: Path) -> None:
    """What the checks above rest on sees a changed file and a missing message."""
    assert train(home, "--corpus.source", "texts") == DONE
    assert train(home, "--corpus.source", "nowhere.txt") == BAD_INPUT
    before = contents(home / "run")
    os.utime(home / "run" / "config.yaml")
    assert contents(home / "run") == before
    assert contents(home / "texts") != before
