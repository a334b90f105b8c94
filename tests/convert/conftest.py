"""A tiny run of each kind, and what ``unmask convert`` makes of it."""

import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
import transformers.dynamic_module_utils
from huggingface_hub import constants

from unmask.cli import main

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "one", "big", "dog", "run", "far"]

KINDS = {
    "denoiser": ["--recipe", "bell", "--train.ema", "0.5"],
    "shift": ["--recipe", "bell", "--model.shift"],
    "late": ["--recipe", "bell", "--model.late", "1", "--corpus.tokenizer", "bpe:270"],
    "causal": ["--recipe", "ar"],
    "local": [
        *("--recipe", "fast", "--model.convolution", "2", "--model.loops", "2"),
        *("--model.activation", "relu2", "--model.value-embedding", "--model.zero-outputs"),
        "--model.self-conditioning",
    ],
    "padded": ["--recipe", "bell", "--corpus.packing", "pad", "--corpus.transform", "reverse"],
}


ALONE = """
import json, re, sys
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] == 'unmask':
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Wall())
import torch
from pathlib import Path
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer
torch.set_num_threads(1)
for kind, folder in json.loads(sys.argv[1]).items():
    auto = AutoModelForCausalLM if kind == 'causal' else AutoModelForMaskedLM
    model = auto.from_pretrained(folder, trust_remote_code=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    given = load_file(f'{sys.argv[2]}/{kind}.safetensors')
    with torch.no_grad():
        logits = model(given['x']).logits
    assert torch.equal(logits, given['logits']), kind
    (code,) = re.findall(r'```python\\n(.*?)```', Path(folder, 'README.md').read_text(), re.DOTALL)
    names = {'FOLDER': folder}
    exec(code, names)
    assert torch.equal(names['model'](given['x']).logits, logits), kind
print('all the same')
"""
"""Opens folders by kind where unmask cannot be imported, and compares logits."""


def same_without_unmask(folders: dict[str, str], given: Path) -> None:
    """Make sure that transformers alone gives the logits in ``given``, and each card's code runs.

    Args:
        folders: of exported models, by kind; ``causal`` for an autoregressive one.
        given: holds ``KIND.safetensors`` with ``x`` and the ``logits`` that are expected.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"HF_HOME": str(given / "home"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", ALONE, json.dumps(folders), str(given)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, cwd=given
    )
    assert done.returncode == 0 and "all the same" in done.stdout, done.stderr[-2000:]


def _quietly(arguments: list[str]) -> None:
    """Run a command that whichever test comes first needs; what it prints is no test's."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        assert main(arguments) == 0


@pytest.fixture(scope="session", autouse=True)
def offline(tmp_path_factory: pytest.TempPathFactory):
    """No hub, and code that comes with a model is not copied into the user's cache."""
    modules = str(tmp_path_factory.mktemp("modules"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        patch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", modules)
        yield


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short texts, parts of one rhyme."""
    folder = tmp_path_factory.mktemp("texts")
    chance = random.Random(0)
    for number in range(120):
        start, words = chance.randrange(len(WORDS)), chance.randrange(3, 30)
        (folder / f"{number:03}.txt").write_text(" ".join((WORDS * 6)[start : start + words]))
    return folder


@pytest.fixture(scope="session")
def trained(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Train a run of a fraction of a second: (options) -> its folder; the same one for the same."""
    done: dict[tuple[str, ...], Path] = {}

    def train(*options: str) -> Path:
        if options in done:
            return done[options]
        folder = tmp_path_factory.mktemp("run") / "run"
        small = [
            *("--corpus.source", str(texts), "--corpus.block-size", "32"),
            *("--model.layers", "2", "--model.width", "32", "--model.heads", "2"),
            *("--train.steps", "6", "--train.batch-size", "8", "--train.warmup-steps", "2"),
            *("--train.device", "cpu", "--train.precision", "fp32", "--train.optimizer", "adamw"),
            *("--train.learning-rate", "0.01", "--validation.blocks", "8"),
            *("--validation.draws", "2", "--train.save-every", "3", "--train.keep", "5"),
        ]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("UNMASK_CACHE", str(folder.parent / "cache"))
            torch.set_num_threads(1)
            _quietly(["train", "--run", str(folder), *small, *options])
        return done.setdefault(options, folder)

    return train


@pytest.fixture(scope="session")
def converted(
    trained: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[Path, Path]]:
    """(kind, or options of a run) -> the folders of the run and of what it is converted to."""
    done: dict[Path, Path] = {}

    def convert(*options: str) -> tuple[Path, Path]:
        run = trained(*(KINDS[options[0]] if len(options) == 1 else options))
        if run not in done:
            done[run] = tmp_path_factory.mktemp("converted") / "model"
            _quietly(["convert", str(run), "--to", str(done[run])])
        return run, done[run]

    return convert
