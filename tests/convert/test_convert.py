"""Runs as folders that `transformers` loads: the same logits, texts and bounds for all."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer

from in_process import train_here
from tiny_networks import make
from unmask.convert.auto import register
from unmask.convert.card import comparison_table
from unmask.convert.export import byte_tokenizer
from unmask.convert.source import adapted_source, own_source
from unmask.data.tokenizers import ByteTokenizer
from unmask.run import Run, open_run

Call = Callable[..., tuple[int, str]]
BAD_INPUT = 2
WITHOUT = """
import sys
class Nowhere:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "unmask":
            raise ImportError(name)
sys.meta_path.insert(0, Nowhere())
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM, AutoTokenizer
folder, there, back = sys.argv[1:]
model = AutoModelForMaskedLM.from_pretrained(folder, trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
assert tokenizer.mask_token_id == model.config.mask_token_id
asked = load_file(there)
there = (asked["x"] == tokenizer.mask_token_id) & (asked["valid"] == 1)
labels = torch.full_like(asked["x"], -100).masked_fill(there, 65)
with torch.no_grad():
    out = model(asked["x"], attention_mask=asked["valid"], labels=labels)
save_file({"logits": out.logits, "loss": out.loss}, back)
"""


def texts(run: Run) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens with masks among them, and which are no padding."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, run.tokenizer.mask_id, (3, 20), generator=generator)
    x[torch.rand(x.shape, generator=generator) < 0.4] = run.tokenizer.mask_id
    return x, (torch.arange(20) < torch.tensor([[20], [13], [20]])).long()


def json_in(text: str) -> dict[str, Any]:
    (line,) = (line for line in text.splitlines() if line.startswith("{"))
    found: dict[str, Any] = json.loads(line)
    return found


@torch.no_grad()
def logits_of(run: Run) -> torch.Tensor:
    x, valid = texts(run)
    logits: torch.Tensor = run.model.head(run.model(x, valid.bool()))
    return logits


@pytest.fixture
def trained(unmask: Call, small: list[str], tmp_path: Path) -> Callable[..., Path]:
    def train(*options: object) -> Path:
        run = tmp_path / "run"
        status, text = unmask("train", "--run", run, *small, "--train.steps", 4, *options)
        assert status == 0, text
        return run

    return train


@pytest.mark.parametrize(
    ("options", "elsewhere"),
    [
        (["--recipe", "bell"], False),
        pytest.param(
            ["--recipe", "fast", "--model.late", 1, "--corpus.tokenizer", "bpe:270"],
            True,
            marks=pytest.mark.slow,
        ),
        (["--recipe", "narrow", "--model.shift", "--train.ema", 0.5], False),
    ],
)
def test_logits_are_the_same_bits_with_unmask_and_without(
    options: list[object], elsewhere: bool, trained: Callable[..., Path], unmask: Call,
    tmp_path: Path,
) -> None:  # fmt: skip
    run, model = trained(*options), tmp_path / "model"
    status, text = unmask("convert", run, "--to", model)
    assert status == 0, text
    opened = open_run(run)
    expected, (x, valid) = logits_of(opened), texts(opened)
    assert torch.equal(logits_of(open_run(model)), expected)
    register()
    there = AutoModelForMaskedLM.from_pretrained(model)
    with torch.no_grad():
        assert torch.equal(there(x, attention_mask=valid).logits, expected)
    assert AutoTokenizer.from_pretrained(model).mask_token_id == opened.tokenizer.mask_id
    if not elsewhere:
        return
    from safetensors.torch import save_file

    save_file({"x": x, "valid": valid}, tmp_path / "x.safetensors")
    words = [str(model), str(tmp_path / "x.safetensors"), str(tmp_path / "y.safetensors")]
    subprocess.run(
        [sys.executable, "-c", WITHOUT, *words],
        check=True,
        cwd=tmp_path,
        env={"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "PATH": "",
             "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    found = load_file(tmp_path / "y.safetensors")
    assert torch.equal(found["logits"], expected)
    asked = valid.bool() & (x == opened.tokenizer.mask_id)
    torch.testing.assert_close(found["loss"], -expected.log_softmax(dim=-1)[asked][:, 65].mean())


@pytest.mark.parametrize(
    "options", [["--recipe", "bell"], ["--recipe", "fast", "--corpus.tokenizer", "bpe:270"]]
)
def test_unmask_opens_it_like_the_run(
    options: list[object], trained: Callable[..., Path], unmask: Call, corpus: Path, tmp_path: Path
) -> None:
    run, model = trained(*options), tmp_path / "model"
    assert unmask("convert", run, "--to", model)[0] == 0

    def said(folder: Path, command: str, *words: object) -> str:
        status, text = unmask(command, folder, *words)
        assert status == 0, text
        return text.replace(str(folder), "")

    scored = ("--corpus.source", corpus, "--json", "--budget", 4000)
    one, other = (json_in(said(f, "evaluate", *scored)) for f in (run, model))
    assert one["nelbo"] == other["nelbo"] and one["stderr"] == other["stderr"]
    for sampler in ("ancestral", "first-hitting", "confidence"):
        words = ("--sampler", sampler, "--length", 12, "--steps", 6, "--json", "--num", 2)
        found = [said(folder, "sample", *words, "--seed", 3) for folder in (run, model)]
        assert found[0] == found[1]
    gap = ("--infill", "the cat [MASK*5] mat", "--json")
    assert said(run, "sample", *gap) == said(model, "sample", *gap)
    more = ["--corpus.source", corpus, "--train.steps", 2, "--validation.blocks", 8]
    more += ["--corpus.block-size", 32]
    again = ["--init", model, "--recipe", "bell" if "bell" in options else "fast", *more]
    status, text = unmask("train", "--run", tmp_path / "again", *again)
    assert status == 0, text
    status, text = unmask("train", "--run", model, "--resume")
    assert status == BAD_INPUT and "it is an exported model; init from it" in text


@pytest.mark.slow
def test_the_card_says_what_is_known(
    unmask: Call, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_here(monkeypatch)
    folder = tmp_path / "cmp"
    options = [*small, "--recipes", "standard,bell", "--train.steps", 4, "--validation.every", 2]
    assert unmask("compare", "--run", folder, *options, "--jobs", 1)[0] == 0
    run, model = folder / "bell/seed-0", tmp_path / "model"
    assert unmask("convert", run, "--to", model, "--checkpoint", 2)[0] == 0
    card = (model / "README.md").read_text()
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    (line,) = (r for r in lines if r["kind"] == "eval" and r["step"] == 2)
    assert (
        "with the recipe `bell`." in card
        and "| recipe in full | `bell:time=truncated-normal,mean=0.5,std=" in card
    )
    assert f"{line['nelbo']:.4f} ± {line['stderr']:.4f} nats per token" in card
    assert json.loads((run / "corpus.json").read_text())["sha256"] in card
    assert (
        "| `standard` | 1.00x |" in card and "times fewer steps than `standard` (one seed" in card
    )
    assert "2 steps" in card and "from_pretrained(FOLDER, trust_remote_code=True)" in card


def test_what_cannot_be(
    trained: Callable[..., Path], unmask: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, model = trained("--recipe", "ar"), tmp_path / "model"
    (tmp_path / "file").write_text("x")
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "here")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    monkeypatch.chdir(tmp_path / "here")
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr("unmask.convert.export.TemporaryDirectory", lambda **_: pytest.fail("late"))
    cases: list[tuple[list[Any], str]] = [
        ([run, "--to", run], f"--to: {run} exists already and is not empty"),
        ([run, "--to", "."], "--to: . is the folder that this runs in"),
        ([run, "--to", tmp_path / "link"], "is a link"),
        ([run, "--to", tmp_path / "dangling"], "cannot be a folder"),
        ([run, "--to", tmp_path / "file"], "cannot be a folder, because it is a file"),
        ([run, "--to", tmp_path / "file/a"], f"because {tmp_path / 'file'} is a file"),
        ([run, "--to", "x" * 300], "cannot be a folder"),
        ([tmp_path / "none", "--to", model], "is not a run"),
        ([run, "--to", model, "--checkpoint", 7], "no checkpoint '7'"),
    ]
    for words, message in cases:
        status, text = unmask("convert", *words)
        assert status == BAD_INPUT and message in text and text.count("\n") == 1, text
    status, text = unmask("convert", tmp_path / "here", "--to", model)
    assert status == BAD_INPUT and text.endswith("here is not a run: it holds no config.yaml\n")
    monkeypatch.setattr("os.access", lambda *_: False)
    status, text = unmask("convert", run, "--to", tmp_path / "a/b")
    assert status == BAD_INPUT and "no permission to write in" in text
    assert sorted(tmp_path.iterdir()) == before


def test_it_is_written_whole_or_not_at_all_and_nothing_beside_it_is_touched(
    trained: Callable[..., Path], unmask: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, beside = trained(), tmp_path / "models/.a.tmp"
    (beside / "of mine").mkdir(parents=True)
    (tmp_path / "models/a").mkdir()  # an empty folder is taken
    for name in ("a", "new/b"):
        model = tmp_path / "models" / name
        assert unmask("convert", run, "--to", model)[0] == 0
        assert (model / "README.md").is_file()
        assert model.stat().st_mode == beside.stat().st_mode  # others may read it, if they may that
    assert sorted(path.name for path in beside.parent.iterdir()) == [".a.tmp", "a", "new"]

    def fail(_: Run) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("unmask.convert.export.model_card", fail)
    unmask("convert", run, "--to", tmp_path / "models/c")
    assert sorted(path.name for path in beside.parent.iterdir()) == [".a.tmp", "a", "new"]
    assert (beside / "of mine").is_dir()


def test_a_run_in_the_root_lies_in_no_comparison() -> None:
    assert comparison_table(Path("/run")) == ""


@pytest.mark.parametrize("more", [[], ["--adapt.lora", 2]])
def test_a_masked_language_model_is_written_as_what_it_was(
    more: list[object], unmask: Call, corpus: Path, tmp_path: Path
) -> None:
    source, run, model = make("bert", tmp_path / "bert"), tmp_path / "run", tmp_path / "model"
    options = ["--corpus.source", corpus, "--corpus.block-size", 32, "--train.batch-size", 4]
    options += ["--recipe", "bell", "--train.steps", 3, "--validation.blocks", 8, *more]
    options += ["--train.precision", "fp32", "--train.learning-rate", 1e-2]
    assert unmask("train", "--init", source, "--run", run, *options)[0] == 0
    status, text = unmask("convert", run, "--to", model)
    assert status == 0, text
    opened, x = open_run(run), torch.arange(32, 48)[None, :]
    there = AutoModelForMaskedLM.from_pretrained(model)
    assert type(there).__name__ == "BertForMaskedLM"
    with torch.no_grad():
        framed = torch.cat((torch.tensor([[257]]), x, torch.tensor([[258]])), dim=1)
        logits = there(framed).logits[:, 1:-1, :256]
        expected = opened.model.head(opened.model(x))[..., :256]
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    scored = ("--corpus.source", corpus, "--json", "--budget", 2000, "--corpus.block-size", 32)
    found = []
    for folder in (run, model):
        status, text = unmask("evaluate", folder, *scored)
        found += [json.loads(line)["nelbo"] for line in text.splitlines() if line.startswith("{")]
    assert found[0] == pytest.approx(found[1], abs=1e-4) and len(found) == 2


def test_the_byte_tokenizer_has_the_same_ids() -> None:
    fast, ours = byte_tokenizer(), ByteTokenizer()
    text = "naïve — ½ \x00\n\t日本 it's 1234 <|x|>"
    assert fast(text, add_special_tokens=False).input_ids == ours.encode([text])[0].tolist()
    assert fast.decode(ours.encode([text])[0].tolist()) == text


@pytest.mark.parametrize("make_source", [own_source, adapted_source])
def test_what_travels_along_is_made_from_the_one_source(make_source: Callable[[], str]) -> None:
    source = make_source()
    lines = [line.strip() for line in source.splitlines()]
    assert not any(line.startswith(("import unmask", "from unmask.")) for line in lines)
    names = [
        line.split("(")[0] for line in source.splitlines() if line.startswith(("def ", "class "))
    ]
    assert len(names) == len({name.rstrip(":") for name in names})
    scope: dict[str, Any] = {"__name__": "modeling"}
    sys.modules["modeling"] = type(sys)("modeling")
    exec(compile(source, "modeling.py", "exec"), scope)
    if make_source is own_source:
        assert scope["ModelConfig"](width=64, heads=4).head_dim == 16
