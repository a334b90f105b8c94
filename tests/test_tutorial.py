"""The tutorial: its commands are understood, and run in their order; its figures are theirs."""

import importlib.util
import re
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

from written_commands import commands_of, understand

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "tutorial.md").read_text(encoding="utf-8")


def _load_run_page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_page", DOCS / "run_page.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


run_page = _load_run_page()
COMMANDS = "".join(block.commands for block in run_page.blocks(PAGE))
FENCED = re.compile(r"^(?P<fence>`{3,})(?P<kind>\w+)\n(?P<inside>.*?)^(?P=fence)\n", re.M | re.S)
PROSE = FENCED.sub("", PAGE)
OUTPUTS = "".join(block["inside"] for block in FENCED.finditer(PAGE) if block["kind"] == "text")


@pytest.mark.parametrize("line", commands_of(textwrap.indent(COMMANDS, "    ") + PROSE))
def test_the_commands_are_understood(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (settings,) = re.findall(r"^cat > small.yaml <<'END'\n(.*?)^END$", COMMANDS, re.M | re.S)
    Path("small.yaml").write_text(settings)
    before_pipe = line.replace("$run", "runs/a").partition(" | ")[0]
    understand(before_pipe, monkeypatch, files_there=True)


def test_the_figures_of_the_text_stand_in_an_output() -> None:
    """After a new run of the page, whatever its text says of the old one is found."""
    said = re.findall(r"(?<![\w./])(?<!Python )(?<!torch )\d{1,3}\.\d{2,}(?![\w])", PROSE)
    assert len(said) >= 5
    assert [figure for figure in said if figure not in OUTPUTS] == []


def test_its_pictures_are_there() -> None:
    made = run_page.pictures(PAGE)
    assert set(made) == set(re.findall(r"!\[[^\]]*\]\((.*?)\)", PROSE)) and len(made) >= 3
    for picture in made:
        assert (DOCS / picture).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_it_runs(tmp_path: Path) -> None:
    written = run_page.run_page(PAGE, tmp_path, smaller=True)
    assert FENCED.sub("", written) == PROSE
    before, after = (list(FENCED.finditer(page)) for page in (PAGE, written))
    for old, new in zip(before, after, strict=True):
        assert old["kind"] == new["kind"]
        assert old["inside"] == new["inside"] if old["kind"] == "bash" else new["inside"].strip()


LITTLE = """\
# A page

```bash
echo "steps: 300" > a.yaml; cat a.yaml
pwd; printf 'control \\a\\n'
```

```text
old
```

Between.

    exit 9

```bash
touch plot.png  # --steps 64 --seeds 3
```

<!-- plot.png -->
![A plot](images/plot.png)
"""


def test_a_page_is_written_anew_and_nothing_else_of_it(tmp_path: Path) -> None:
    written = run_page.run_page(LITTLE, tmp_path)
    assert written == LITTLE.replace("old\n", "steps: 300\n.\ncontrol �\n")
    assert run_page.run_page(written, tmp_path) == written
    smaller = run_page.run_page(LITTLE, tmp_path, smaller=True)
    assert smaller == LITTLE.replace("old\n", "steps: 4\n.\ncontrol �\n")
    assert run_page.small("a --steps 64 --train.steps 9 --seeds 3") == (
        "a --steps 4 --train.steps 4 --seeds 3"
    )


@pytest.mark.parametrize("fault", ["false", "echo one; exit 3; echo two", "rm plot.png"])
def test_a_command_that_fails_is_named(tmp_path: Path, fault: str) -> None:
    page = LITTLE + f"\n```bash\n{fault}\n```\n"
    with pytest.raises(run_page.PageFailed) as failed:
        run_page.run_page(page, tmp_path)
    assert ("plot.png" if "plot" in fault else fault) in str(failed.value)


def test_an_output_that_holds_a_fence_is_fenced_longer(tmp_path: Path) -> None:
    page = "```bash\necho '```'; echo a\n```\n\n```text\n```\n"
    written = run_page.run_page(page, tmp_path)
    assert written.endswith("\n````text\n```\na\n````\n")
    assert run_page.run_page(written, tmp_path) == written


def test_times_and_speeds_are_left_out(tmp_path: Path) -> None:
    line = "step 30  NELBO 6.1 ± 0.1 nats/token  3.0 bits/byte  5,752 tokens/s, 0.013 TFLOP/s"
    page = f"```bash\necho '{line}'; echo 'packing: 7 documents in 1.9 s'\n```\n\n```text\n```\n"
    written = run_page.run_page(page, tmp_path).split("```text\n")[1]
    assert written.splitlines()[:2] == [line[:50], "packing: 7 documents in ... s"]


def test_a_long_line_is_wrapped_between_words_and_a_table_is_not(tmp_path: Path) -> None:
    words, row = "word " * 40, "│ " * 60
    page = f"```bash\necho '{words}'; echo '{row}'\n```\n\n```text\n```\n"
    written = run_page.run_page(page, tmp_path).split("```text\n")[1]
    *lines, last, _ = written.splitlines()
    assert " ".join(lines).split() == words.split() and last == row.rstrip()
    assert max(map(len, lines)) <= run_page.COLUMNS < len(last)
