"""A request that is refused is told before anything slow, and changes no byte of the run."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from rich.console import Console

from unmask import run as run_module
from unmask.base.errors import UserError
from unmask.base.files import locked, sha256_of
from unmask.config import Config, load_config, with_options
from unmask.model.config import ModelConfig
from unmask.model.network import parameter_count
from unmask.model.transformer import Transformer
from unmask.run import check_continuable, open_run, train_run

QUIET = Console(quiet=True)


def config_of(corpus: Path, **options: object) -> Config:
    small = {
        "corpus.source": str(corpus),
        "corpus.block_size": 16,
        "corpus.valid_fraction": 0.2,
        "model.layers": 1,
        "model.width": 8,
        "model.heads": 1,
        "train.steps": 4,
        "train.batch_size": 4,
        "train.device": "cpu",
        "train.precision": "fp32",
        "train.optimizer": "adamw",
        "train.log_every": 1,
        "validation.every": 2,
        "validation.blocks": 4,
        "validation.draws": 1,
    }
    return with_options(Config(recipe="bell"), small | options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 4 steps, and the texts that it was trained on beside it."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "texts").mkdir()
    for number in range(20):
        text = "the cat sat on a mat and saw one big dog run far " * (number % 5 + 3)
        (folder / f"texts/{number:02}.txt").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNMASK_CACHE", str(folder / "cache"))
        config = config_of(folder / "texts")
        train_run(config, folder / "run", resume=False, console=QUIET)
    return folder / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of it, to be harmed."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): sha256_of(path) if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
    }


@contextmanager
def refused(folder: Path, said: str) -> Iterator[None]:
    """The block raises one `UserError`, and what is in the folder stays as it is."""
    before = contents(folder)
    with pytest.raises(UserError) as caught:
        yield
    assert said in str(caught.value), str(caught.value)
    assert contents(folder) == before


def resume(run: Path, **options: object) -> None:
    config = with_options(load_config(run / "config.yaml"), options)
    train_run(config, run, resume=True, console=QUIET)


def test_fewer_steps_than_done(run: Path) -> None:
    for steps in (1, 3):
        with refused(run, f"for train.steps {steps}: it has done 4; give at least that"):
            resume(run, **{"train.steps": steps})
    resume(run)
    resume(run, **{"train.steps": 5})
    assert open_run(run).checkpoint.progress.step == 5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"train.learning_rate": 0.5}, "train.learning_rate: 0.008 -> 0.5"),
        ({"seed": 1}, "seed: 0 -> 1"),
        ({"recipe": "standard"}, "recipe: "),
        ({"model.width": 16, "train.steps": 9}, "model.width: 8 -> 16"),
        ({"train.device": "mps", "train.steps": 9}, "'mps' is not available"),
        ({"train.log_to": ("wandb",), "train.steps": 9}, "wandb"),
    ],
)
def test_another_configuration(
    run: Path, options: dict[str, object], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("unmask.train.metrics.import_module", missing)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with refused(run, said):
        resume(run, **options)


def write(path: str, text: str) -> Callable[[Path], object]:
    return lambda run: (run / path).write_text(text)


def change(path: str, **values: object) -> Callable[[Path], object]:
    def harm(run: Path) -> None:
        record = json.loads((run / path).read_text())
        (run / path).write_text(json.dumps(record | values))

    return harm


def break_line(path: str, number: int, text: str) -> Callable[[Path], object]:
    def harm(run: Path) -> None:
        lines = (run / path).read_text().split("\n")
        lines[number - 1] = text
        (run / path).write_text("\n".join(lines))

    return harm


LAST = "checkpoints/step-00000004/checkpoint.json"
DAMAGE = {
    "no config": (lambda run: (run / "config.yaml").unlink(), "config.yaml"),
    "empty config": (write("config.yaml", ""), "must hold keys and values"),
    "half a config": (write("config.yaml", "train:\n  steps: ["), "config.yaml: line 2"),
    "empty corpus.json": (write("corpus.json", ""), "corpus.json is damaged"),
    "cut corpus.json": (write("corpus.json", '{"sha256": "ab'), "corpus.json is damaged"),
    "list in corpus.json": (write("corpus.json", "[]"), "does not say what the run was trained on"),
    "number in corpus.json": (
        change("corpus.json", sha256=3),
        "does not say what the run was trained on",
    ),
    "deep corpus.json": (write("corpus.json", "[" * 100_000), "corpus.json is damaged"),
    "long number": (write("corpus.json", "9" * 5000), "corpus.json is damaged"),
    "another corpus": (change("corpus.json", sha256="0" * 64), "is no longer what the run"),
    "broken line": (
        break_line("metrics.jsonl", 2, '{"step": '),
        "metrics.jsonl, line 2, is damaged",
    ),
    "number as a line": (break_line("metrics.jsonl", 1, "3"), "metrics.jsonl, line 1, is damaged"),
    "no step": (break_line("blocks.jsonl", 1, '{"nats": []}'), "blocks.jsonl, line 1, is damaged"),
    "step as text": (break_line("blocks.jsonl", 1, '{"step": "1"}'), "blocks.jsonl, line 1, is"),
    "not UTF-8": (
        lambda run: (run / "metrics.jsonl").write_bytes(b"\xff\n"),
        "metrics.jsonl, line 1, is",
    ),
    "no manifest": (write(LAST, ""), "checkpoint.json is missing or unreadable"),
    "negative step": (change(LAST, step=-4), "checkpoint.json is missing or unreadable"),
    "another step": (change(LAST, step=3), "checkpoint.json is missing or unreadable"),
    "step as a bool": (change(LAST, step=True), "checkpoint.json is missing or unreadable"),
    "text as seconds": (change(LAST, seconds="1"), "checkpoint.json is missing or unreadable"),
    "NaN": (change(LAST, nelbo=float("nan")), "checkpoint.json is missing or unreadable"),
    "files are no map": (change(LAST, files=[]), "checkpoint.json is missing or unreadable"),
    "no file": (change(LAST, files={}), "checkpoint.json is missing or unreadable"),
    "file outside": (
        change(LAST, files={"model.safetensors": "", "../../config.yaml": ""}),
        "checkpoint.json is missing or unreadable",
    ),
    "averages that never were": (
        lambda run: (run / "config.yaml").write_text(
            (run / "config.yaml").read_text().replace("ema: 0.0", "ema: 0.5")
        ),
        "holds no ema.safetensors",
    ),
    "wide network": (
        lambda run: (run / "config.yaml").write_text(
            (run / "config.yaml").read_text().replace("width: 8", "width: 16")
        ),
        "holds another network than the run's config.yaml",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_run_is_left_as_it_is(run: Path, name: str) -> None:
    config = with_options(load_config(run / "config.yaml"), {"train.steps": 6})
    harm, said = DAMAGE[name]
    harm(run)
    if name in ("wide network", "averages that never were"):
        config = with_options(load_config(run / "config.yaml"), {"train.steps": 6})
    with refused(run, said):
        train_run(config, run, resume=True, console=QUIET)


@pytest.mark.parametrize("name", ["no config", "empty config", "half a config", "wide network",
                                  "no manifest", "negative step"])  # fmt: skip
def test_a_damaged_run_is_not_opened(run: Path, name: str) -> None:
    DAMAGE[name][0](run)
    with refused(run, DAMAGE[name][1].partition(": ")[0]):
        open_run(run)


def test_a_run_another_process_trains(run: Path) -> None:
    with refused(run, "another process is training there"), locked(run, wait=False):
        resume(run, **{"train.steps": 6})


def test_another_tokenizer(run: Path) -> None:
    shutil.rmtree(run / "tokenizer")
    with refused(run, "tokenizer"):
        resume(run, **{"train.steps": 6})


def test_a_folder_that_is_not_there_is_not_resumed(tmp_path: Path, corpus: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder, why in ((tmp_path / "typo", "there is no such folder"), (empty, "no config.yaml")):
        with refused(tmp_path, f"cannot resume {folder}: it is not a run"):
            train_run(config_of(corpus), folder, resume=True, console=QUIET)
        with refused(tmp_path, why):
            train_run(config_of(corpus), folder, resume=True, console=QUIET)


def test_folders_that_cannot_be(tmp_path: Path, corpus: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("file", "file/run", "dangling", "dangling/run", "x" * 300, "nul\0"):
        with refused(tmp_path, "cannot be a folder"):
            train_run(config_of(corpus), tmp_path / name, resume=False, console=QUIET)


def test_a_folder_without_permission(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with refused(tmp_path, "no permission to write"):
        train_run(config_of(corpus), tmp_path / "a/b", resume=False, console=QUIET)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"train.accumulation": 5}, "train.accumulation 5 is more than train.batch_size 4"),
        ({"train.batch_size": 2**32 - 1, "corpus.block_size": 2**20}, "token ids of 8 bytes"),
        ({"model.width": 1_000_000, "model.layers": 10_000}, "weights of 4 bytes"),
        ({"recipe": "mirror", "train.batch_size": 3}, "batch"),
        ({"train.compile": True}, "needs a C++ compiler"),
    ],
)
def test_told_before_the_corpus_is_read(
    tmp_path: Path,
    corpus: Path,
    options: dict[str, object],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr(run_module, "load_data", lambda *_, **__: pytest.fail("too late"))
    with refused(tmp_path, said):
        train_run(config_of(corpus, **options), tmp_path / "new", resume=False, console=QUIET)


def test_what_may_change_is_asked_of_one_function(run: Path) -> None:
    saved = load_config(run / "config.yaml")
    check_continuable(with_options(saved, {"train.steps": 9, "train.keep": 5}), run)
    may = "only corpus.processes, train.device, train.keep"
    with pytest.raises(UserError, match=rf"validation.draws: 1 -> 2.*{may}"):
        check_continuable(with_options(saved, {"validation.draws": 2}), run)


@pytest.mark.parametrize(("layers", "width", "heads"), [(1, 8, 1), (3, 48, 4), (2, 130, 5)])
def test_the_weights_of_the_blocks_are_counted_without_making_them(
    layers: int, width: int, heads: int
) -> None:
    config = ModelConfig(layers=layers, width=width, heads=heads)
    with torch.device("cpu"):
        total, _ = parameter_count(Transformer(config, 11))
    assert total == config.block_parameters + 2 * 11 * width + width
