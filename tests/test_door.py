"""The door: help without torch, results byte for byte, every early end a line and a status."""

import errno
import io
import json
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.live import Live
from rich.panel import Panel
from rich.progress import Progress
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

import unmask
from unmask.base.console import PlainConsole
from unmask.base.errors import UserError
from unmask.base.files import write_whole
from unmask.base.text import visible
from unmask.cli import main
from unmask.cli.analyze import ANALYSES
from unmask.cli.commands import Group
from unmask.cli.evaluate import TASKS
from unmask.cli.main import COMMANDS
from unmask.cli.options import says_flags
from unmask.cli.output import open_streams, print_error, print_result
from unmask.cli.sample import SampleArguments
from unmask.cli.train import TrainArguments

Call = Callable[..., tuple[int, str]]
PYTHON = [sys.executable, "-m", "unmask"]
OVERRIDES = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
ODD = "\ttab [b]bold[/b] :smile: [/] \x07\x1b[31mred\x1b[0m\r " + "long " * 60 + "¶ é 中 end"


@pytest.fixture
def run(unmask: Call, small: list[str], tmp_path: Path) -> Path:
    """Trained for a step, in a folder whose name is markup, an emoji code and two words."""
    folder = tmp_path / "[b] :smile: [" / "my run"
    status, text = unmask("train", "--run", folder, *small, "--train.steps", 1)
    assert status == 0, text
    return folder


def start(*arguments: object, **options: object) -> subprocess.CompletedProcess[bytes]:
    """The command line in a process of its own."""
    return subprocess.run(
        [*PYTHON, *map(str, arguments)],
        capture_output=True,
        check=False,
        **options,  # type: ignore[call-overload]
    )


def all_commands() -> list[list[str]]:
    groups: list[Group] = [COMMANDS, ANALYSES, TASKS]
    return [[*g.name.split()[1:], name] for g in groups for name in ("", *g.commands)]


# ---------------------------------------------------------------- help and version


def test_no_help_imports_torch() -> None:
    """Every command's, one after the other in one interpreter that walls torch off."""
    lines = [[word for word in command if word] for command in all_commands()]
    assert ["evaluate", "suite"] in lines and ["sample"] in lines and [] in lines
    code = f"""
import sys
class Wall:
    def find_spec(self, name, path=None, target=None):
        assert name not in ("torch", "numpy", "transformers", "datasets", "matplotlib"), name
sys.meta_path.insert(0, Wall())
from unmask.cli import main
for line in {lines}:
    assert main([*line, "--help"]) == 0, line
assert main(["--version"]) == 0
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for flag in ("--train.batch-size", "--quality.judge", "--temperatures", "--include-path"):
        assert flag in done.stdout
    for task in TASKS.commands:
        assert f"unmask evaluate {task}" in done.stdout


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(command, marks=[] if command == ["train"] else [pytest.mark.slow])
        for command in all_commands()
    ],
    ids=" ".join,
)
def test_help_takes_hardly_longer_than_the_libraries_that_show_it(command: list[str]) -> None:
    def seconds(command: list[str]) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    libraries = [sys.executable, "-c", "import pydantic, tyro, yaml, rich.progress"]
    assert seconds([*PYTHON, *filter(None, command), "--help"]) < 3 * seconds(libraries) + 0.1


def test_the_version(unmask: Call) -> None:
    import unmask as package

    assert unmask("--version") == (0, f"unmask {package.__version__}\n")
    assert start("--version").stdout.decode() == f"unmask {package.__version__}\n"


def test_the_front_offers_all_its_names_and_no_other() -> None:
    assert all(getattr(unmask, name) is not None for name in unmask.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = unmask.nothing  # type: ignore[attr-defined]


# ---------------------------------------------------------------- options and flags


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--train.steps", "0"], "error: --train.steps: "),
        (["--model.width", "33"], "error: --model.width must be divisible"),
        (["--seed", "-1"], "error: --seed: "),
        (["--train.stpes", "3"], "--train.steps"),
        (["--train.steps", "many"], "--train.steps"),
    ],
)
def test_options_are_told_by_their_flags(options: list[str], said: str, unmask: Call) -> None:
    status, text = unmask("train", "--run", "r", *options)
    assert status == 2 and said in text and "config" not in text.lower(), text


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        ("trian --run r", "'train'"),
        ("analyze localty x", "'locality'"),
        ("evaluate suit x", "'suite'"),
        ("train --run r --train.step 3", "--train.steps"),
        ("train --run r --trian.steps 3", "--train.steps"),
        ("train --run r --steps 3", "--train.steps"),
        ("train --run r --learning-rate 3", "--train.learning-rate"),
        ("compare --run r --recipe.s bell", "--recipes"),
        ("sample r --tempereture 1", "--temperature"),
        ("train --run r --preset nanno", "'nano'"),
        ("train --run r --recipe bel", "'bell'"),
        ("train --run r --recipe bell:masking=scatered", "'scattered'"),
        ("train --run r --train.optimizer mun", "'muon'"),
        ("compare --run r --recipes standard,bell+steps=3", "'train.steps'"),
        ("compare --run r --recipes standard,bell+train.stesp=3", "'steps'"),
    ],
)
def test_a_wrong_name_is_told_the_nearest(words: str, nearest: str, unmask: Call) -> None:
    status, text = unmask(*words.split())
    flat = " ".join(text.replace("│", " ").split())
    said = flat.partition("did you mean " if nearest[0] == "'" else "Perhaps you meant: ")[2]
    assert status == 2 and said.startswith(nearest), text


def test_a_wrong_tokenizer_is_told_the_nearest(
    unmask: Call, small: list[str], tmp_path: Path
) -> None:
    for name, nearest in (("byte", "bytes"), ("bp:400", "bpe:400")):
        status, text = unmask("train", "--run", tmp_path / "r", *small, "--corpus.tokenizer", name)
        assert status == 2 and f"{name!r} (did you mean {nearest!r}?)" in text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("trian: {}", "line 1: unknown key 'trian' (did you mean 'train'?)"),
        ("seed: 1\nsteps: 3", "line 2: unknown key 'steps' (did you mean 'train.steps'?)"),
        ("train:\n  stepz: 3", "line 2: unknown key 'train.stepz' (did you mean 'steps'?)"),
        ("corpus: {tokeniser: x}", "unknown key 'corpus.tokeniser' (did you mean 'tokenizer'?)"),
        ("train:\n  lr: 3", "line 2: unknown key 'train.lr'; valid: accumulation"),
    ],
)
def test_a_wrong_key_of_a_file_is_told_the_nearest_and_its_line(
    text: str, said: str, unmask: Call, tmp_path: Path
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    status, told = unmask("train", "--config", file, "--run", tmp_path / "r")
    assert status == 2 and said in told, told


@pytest.mark.parametrize(
    ("problem", "told"),
    [
        ("train.batch_size: 0 is too few", "--train.batch-size: 0 is too few"),
        ("more validation.blocks or train.steps", "more --validation.blocks or --train.steps"),
        ("recipe must be one", "--recipe must be one"),
        ("the recipe must be one", "the recipe must be one"),
        ("run: x is there: resume it", "--run: x is there: resume it"),
        ("unknown key 'train.steps'", "unknown key 'train.steps'"),
        ("'bell+train.batch_size=3' is none", "'bell+train.batch_size=3' is none"),
        ("runs/train.steps is no file", "runs/train.steps is no file"),
        ("train.steps.txt is no file", "train.steps.txt is no file"),
        ("the configuration c.yaml: train.steps: no", "the configuration c.yaml: train.steps: no"),
        ("--train.steps is a flag already", "--train.steps is a flag already"),
    ],
)
def test_fields_become_flags_where_they_are_meant(problem: str, told: str) -> None:
    @says_flags(TrainArguments)
    def fail(arguments: object) -> int:
        raise UserError(problem)

    with pytest.raises(UserError) as caught:
        fail([])
    assert str(caught.value) == told


def test_what_is_given_in_place_and_underscored_names() -> None:
    @says_flags(SampleArguments)
    def fail(arguments: object) -> int:
        raise UserError("block_length: 0", "run: not there", "prompt, infill_file: give one")

    with pytest.raises(UserError) as caught:
        fail([])
    assert caught.value.problems == (
        "--block-length: 0",
        "run: not there",
        "--prompt, --infill-file: give one",
    )


def test_nothing_below_the_door_spells_a_flag_of_evaluate_or_train() -> None:
    package = Path(unmask.__file__).parent
    for place in ("train", "evaluate/subject.py", "evaluate/zeroshot.py", "evaluate/judge.py"):
        path = package / place
        for file in [path] if path.is_file() else path.rglob("*.py"):
            found = [line for line in file.read_text().splitlines() if " --" in line]
            assert not [line for line in found if "pip install" not in line], file


# ---------------------------------------------------------------- what is printed


@given(st.text(st.characters(codec="utf-8")))
def test_results_go_out_byte_for_byte(text: str) -> None:
    read, write = os.pipe()
    before = sys.stdout
    with os.fdopen(read, "rb") as out, os.fdopen(write, "w", encoding="ascii") as stream:
        sys.stdout = stream
        try:
            print_result(text, newline=False)
        finally:
            sys.stdout = before
        stream.close()
        assert out.read() == text.encode()


@given(st.text(st.characters(codec="utf-8")))
def test_no_control_character_reaches_a_terminal(text: str) -> None:
    shown = visible(text)
    assert all(c in "\t\n" or (c >= " " and not "\x7f" <= c <= "\x9f") for c in shown)
    assert not any(unicodedata.bidirectional(c) in OVERRIDES for c in shown)
    assert visible(shown) == shown
    if text.isprintable():
        assert shown == text


@pytest.mark.parametrize("terminal", [True, False])
def test_a_console_prints_strings_as_they_are(
    terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("TTY_COMPATIBLE", "1" if terminal else "0")
    console = PlainConsole()
    assert console.is_terminal == terminal
    name = "a [b]x[/b] :smile: 3.5 \x1b[2J"
    table = Table("name")
    table.add_row(name)
    console.width = 80
    console.print(name)
    console.print(table)
    out = capsys.readouterr().out
    assert out.count("a [b]x[/b] :smile: 3.5") == 2
    assert ("\x1b[2J" in out) != terminal


FORGED = "\x1b]0;title\x07 \x1b[2J \x9b31m \u202eeno \u2066two\r end"
"""What a model of bytes may say: it renames the window, clears it, turns the text around."""


class Terminal(io.StringIO):
    """A standard output that is a terminal."""

    def isatty(self) -> bool:
        return True

    def shown(self) -> str:
        """What came, without the signs with which `rich` itself styles and moves."""
        return re.sub(r"\x1b\[\??[0-9;]*[AKhlm]", "", self.getvalue())


def open_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """To be called in the test itself: `pytest` sets the streams anew after the fixtures."""
    stream = Terminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys, "stdout", stream)
    return stream


def test_no_text_moves_a_terminal_whatever_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    console = PlainConsole()
    assert console.is_terminal
    table = Table("text", caption=FORGED)
    table.add_row(Text(FORGED))
    for held in (FORGED, Text(FORGED), table, Panel(Text(FORGED), title=FORGED), Rule(FORGED)):
        console.print(held, soft_wrap=True)
    with Live(Text(FORGED), console=console), console.status(FORGED):
        pass
    with Progress(console=console) as bar:
        bar.add_task(FORGED, total=1)
    assert terminal.shown().count("eno") > len(("as above", "live", "status", "bar"))
    assert not re.findall(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202e\u2066]", terminal.shown())


def test_texts_of_a_model_are_shown_on_a_terminal_and_kept_in_a_file(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = open_terminal(monkeypatch)

    def sample(run: object, *, on_step: Callable[[torch.Tensor], None], **_: object) -> list[str]:
        on_step(torch.tensor([list(FORGED.encode())]))
        return [FORGED]

    monkeypatch.setattr("unmask.sample.sample", sample)
    for options in ([], ["--watch"], ["--json"]):
        assert main(["sample", str(run), "--num", "1", *options]) == 0
    assert terminal.shown().count("␛[2J") >= len(("plain", "watched", "plain again"))
    assert "\\u001b[2J" in terminal.shown() and "<202e>eno <2066>two␍" in terminal.shown()
    assert not re.findall(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202e\u2066]", terminal.shown())
    file = tmp_path / "samples.txt"
    assert main(["sample", str(run), "--num", "1", "--out", str(file)]) == 0
    assert file.read_bytes() == FORGED.encode()


def test_signs_that_a_stream_cannot_take(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "± 1 × 2 – ░ é".encode("ascii", "unmask") == b"+/- 1 x 2 - # \\xe9"
    done = start("train", "--help", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and done.stdout.isascii() and b"--recipe" in done.stdout


def test_samples_byte_for_byte(
    small: list[str],
    tmp_path: Path,
    capsysbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("unmask.sample.sample", lambda run, num, **_: [ODD] * num)
    run = tmp_path / "run"
    assert main(["train", "--run", str(run), *small, "--train.steps", "1"]) == 0
    capsysbinary.readouterr()
    assert main(["sample", str(run), "--num", "1"]) == 0
    done = capsysbinary.readouterr()
    assert done.out == ODD.encode() + b"\n" and done.err == b""
    assert main(["sample", str(run), "--num", "2"]) == 0
    out = capsysbinary.readouterr().out
    assert out.count(ODD.encode() + b"\n") == 2 and b" sample 2 " in out


def test_samples_as_json_lines_and_into_a_file(run: Path, unmask: Call, tmp_path: Path) -> None:
    request = ("sample", run, "--num", 2, "--length", 5, "--seed", 3, "--prompt", "a\tb", "[b]")
    status, text = unmask(*request, "--json")
    found = [json.loads(line) for line in text.splitlines()]
    assert status == 0 and [f["index"] for f in found] == [0, 1, 2, 3]
    assert [f["prompt"] for f in found] == ["a\tb", "a\tb", "[b]", "[b]"]
    assert all(f["text"].startswith(f["prompt"]) for f in found)
    assert {(f["tokens"], f["seed"], f["checkpoint"]) for f in found} == {(5, 3, 1)}

    file = tmp_path / "lines.jsonl"
    assert unmask(*request, "--json", "--out", file) == (0, "")
    assert file.read_text() == text
    one = ("sample", run, "--num", 1, "--infill", "x\n[MASK*2]y\n", "--out", file)
    assert unmask(*one) == (0, "")
    whole = file.read_bytes().decode()
    assert whole.startswith("x\n") and whole.endswith("y\n") and len(whole) >= 4


def test_an_autoregressive_run_takes_no_steps(
    unmask: Call, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "ar"
    options = ("--recipe", "ar", "--train.steps", 1)
    assert unmask("train", "--run", folder, *small, *options)[0] == 0
    monkeypatch.setattr("unmask.run.open_run", lambda *_: pytest.fail("the weights were read"))
    for option, value in (("--steps", 64), ("--sampler", "margin"), ("--block-length", 4)):
        status, text = unmask("sample", folder, option, value)
        assert status == 2 and f"error: {option}: this run is autoregressive" in text
    status, text = unmask("sample", folder, "--infill", "a[MASK]")
    assert status == 2 and "autoregressive" in text


def test_commands_are_suggested_as_a_shell_takes_them(
    run: Path, unmask: Call, small: list[str]
) -> None:
    other = run.with_name("it's [more]")
    status, text = unmask("train", "--run", other, *small, "--train.steps", 1)
    (line,) = [line for line in text.splitlines() if line.startswith("done: ")]
    assert status == 0 and f"done: {other};" in line
    assert shlex.split(line.partition("samples: ")[2]) == ["unmask", "sample", str(other)]


def test_a_mistyped_run_says_what_is_near(run: Path, unmask: Call) -> None:
    for command in (["sample"], ["evaluate", "generative"], ["evaluate", "tasks"], ["evaluate"]):
        names = ["x"] if command[-1] == "tasks" else []
        status, text = unmask(*command, run.with_name("my rnu"), *names)
        assert status == 2 and f"did you mean {str(run)!r}?" in " ".join(text.split()), text


# ---------------------------------------------------------------- early ends


@pytest.mark.parametrize(
    ("number", "made_of_it"),
    [
        (signal.SIGINT, "raise ImportError('torch is broken')"),
        (signal.SIGTERM, "raise"),
        pytest.param(signal.SIGINT, "raise", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, "raise ImportError('broken')", marks=pytest.mark.slow),
    ],
)
def test_a_signal_while_importing_is_a_line(
    number: signal.Signals, made_of_it: str, tmp_path: Path
) -> None:
    """A torch that is interrupted while it is imported, and may make another error of it."""
    (tmp_path / "torch.py").write_text(
        f"import os, time\ntry:\n    os.kill(os.getpid(), {int(number)})\n    time.sleep(9)\n"
        f"except KeyboardInterrupt:\n    {made_of_it}\n"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(unmask.__file__).parent.parent)])
    done = start(
        "train", "--run", tmp_path / "r", env={**os.environ, "PYTHONPATH": path}, timeout=60
    )
    assert (done.returncode, done.stderr, done.stdout) == (128 + number, b"stopped\n", b"")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize(
    ("place", "command"),
    [
        ("unmask.sample.sample", ["sample", "RUN"]),
        ("unmask.evaluate.likelihood.pack_own_validation", ["evaluate", "RUN"]),
        ("unmask.run.load_data", ["train", "--run", "NEW"]),
    ],
)
def test_a_signal_while_working_is_a_line(
    number: int, place: str, command: list[str], run: Path, unmask: Call,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setattr(place, lambda *_, **__: os.kill(os.getpid(), number))
    before = signal.getsignal(number)
    words = [str({"RUN": run, "NEW": tmp_path / "new"}.get(w, w)) for w in command]
    status, text = unmask(*words)
    assert status == 128 + number and text.endswith("stopped\n") and "Traceback" not in text
    assert signal.getsignal(number) is before and not (tmp_path / "new").exists()


def test_a_reader_that_has_gone_and_no_output_at_all() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*PYTHON, "train", "--help"], stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")
    closed = f"{shlex.join(PYTHON)} --version >&-"
    done = subprocess.run(["sh", "-c", closed], stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_machine_without_room_or_permission_is_a_line(
    run: Path, unmask: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "out.txt"
    for code in (errno.ENOSPC, errno.EROFS, errno.EACCES):

        def full(path: Path, data: bytes, code: int = code) -> None:
            raise OSError(code, os.strerror(code), str(path))

        monkeypatch.setattr("unmask.cli.sample.write_whole", full)
        status, text = unmask("sample", run, "--out", file, "--length", 4, "--steps", 1)
        assert (status, text) == (2, f"error: {os.strerror(code)}: {file}\n")
        assert not file.exists()


@pytest.mark.parametrize("made", [OSError(errno.ENOSPC, "no room"), KeyboardInterrupt()])
def test_a_file_that_cannot_be_written_leaves_nothing(
    made: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise made

    monkeypatch.setattr(os, "fsync", fail)
    (tmp_path / "old").write_text("as it was")
    for name in ("old", "new"):
        with pytest.raises(type(made)) as caught:
            write_whole(tmp_path / name, b"half of it")
        assert getattr(caught.value, "filename", None) in (None, str(tmp_path / name))
    assert [file.read_text() for file in tmp_path.iterdir()] == ["as it was"]


def test_too_little_memory_is_a_line(
    run: Path, unmask: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in (
        MemoryError("3 GB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
    ):

        def fail(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        monkeypatch.setattr("unmask.sample.sample", fail)
        status, text = unmask("sample", run)
        assert status == 2 and "not enough memory" in text and text.count("\n") == 1


def test_a_fault_of_ours_keeps_its_traceback(
    run: Path, unmask: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr("unmask.sample.sample", broken)
    with pytest.raises(RuntimeError, match="a fault"):
        unmask("sample", run)


def test_arguments_that_are_no_text(unmask: Call) -> None:
    status, text = unmask("sample", "runs/\udcff")
    assert status == 2 and text == "error: the argument 'runs/\\udcff' is not UTF-8 text\n"


def test_an_option_before_the_name_of_a_command(unmask: Call) -> None:
    status, text = unmask("analyze", "--json", "locality")
    assert (status, text) == (
        2,
        "error: unmask analyze needs the name of its analysis before --json\n",
    )


def test_errors_show_no_control_characters(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    open_streams()
    print_error("a \x1b[2J name")
    assert capsys.readouterr().err == "a ␛[2J name\n"
