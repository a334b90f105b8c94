"""Run the commands of a page, in a fresh folder, and write what they print into the page.

    .venv/bin/python docs/run_page.py docs/tutorial.md

Commands stand in blocks fenced as ``bash``, which run in their order; indented commands do not run.
What a block prints stands in the block fenced as ``text`` that follows it, if one does: it is
written anew. A picture under a comment, ``<!-- runs/a/report/plot.png -->``, is copied from that
file. Paths of this machine and what depends on its speed are taken out of what is written.

With ``--small`` the commands run with the sizes of `SMALL` in place of the page's, to see that they
run: that takes a minute or two, and the page stays as it is.
"""

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SMALL = {"steps": 4, "every": 2, "blocks": 16, "gradient-blocks": 3, "restarts": 2}
"""Numbers that take the place of those behind these names, in options and in YAML."""

COLUMNS = 80
"""Of a line of output: more do not fit beside the site's navigation."""

_BLOCK = re.compile(
    r"^```bash\n(?P<commands>.*?)^```\n(?:\n(?P<fence>`{3,})text\n(?P<output>.*?)^(?P=fence)\n)?",
    re.MULTILINE | re.DOTALL,
)
_PICTURE = re.compile(r"^<!-- (?P<source>\S+\.png) -->\n!\[[^\]]*\]\((?P<target>[^)]+)\)", re.M)


@dataclass(frozen=True)
class Block:
    """Commands of a page.

    Attributes:
        commands: as they stand there.
        start, end: of the block in the page, with that of its output.
        has_output: whether a block for what they print follows.
    """

    commands: str
    start: int
    end: int
    has_output: bool


class PageFailed(Exception):
    """A command of the page failed, or a picture of it was not made."""


def blocks(page: str) -> Iterator[Block]:
    """The blocks of commands of a page, in order."""
    for found in _BLOCK.finditer(page):
        has_output = found["output"] is not None
        yield Block(found["commands"], found.start(), found.end(), has_output)


def pictures(page: str) -> dict[str, str]:
    """The page's pictures that its commands make: where to, and from which file."""
    return {found["target"]: found["source"] for found in _PICTURE.finditer(page)}


def small(commands: str) -> str:
    """The commands with the sizes of `SMALL`."""
    for name, number in SMALL.items():
        commands = re.sub(
            rf"(?<![\w-])((?:--)?(?:\w+\.)?{name}(?:: | ))\d+", rf"\g<1>{number}", commands
        )
    return commands


def run_page(page: str, folder: Path, *, smaller: bool = False) -> str:
    """Run a page's commands in a folder.

    Args:
        page: its text.
        folder: an empty one.
        smaller: with the sizes of `SMALL`.

    Returns:
        The page with what they printed.

    Raises:
        PageFailed: a command did not end with 0, or a picture is not there afterwards.
    """
    parts, end = [], 0
    for block in blocks(page):
        commands = small(block.commands) if smaller else block.commands
        printed = _without_machine(_run(commands, folder), folder)
        parts.append(page[end : block.start])
        parts.append(f"```bash\n{block.commands}```\n")
        if block.has_output:
            fence = "`" * max(3, *(len(ticks) + 1 for ticks in re.findall("`{3,}", printed)), 3)
            parts.append(f"\n{fence}text\n{printed}{fence}\n")
        end = block.end
    for source in pictures(page).values():
        if not (folder / source).is_file():
            raise PageFailed(f"the page's commands make no {source}")
    return "".join([*parts, page[end:]])


def _run(commands: str, folder: Path) -> str:
    """What the commands print, to both streams; they find this Python and this package first."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    sources = {"PYTHONPATH": str(ROOT / "src"), "UNMASK_CACHE": str(folder / ".cache")}
    started = time.perf_counter()
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder,
        env={**os.environ, **sources, "PATH": programs, "HF_HUB_OFFLINE": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    printed = done.stdout.decode("utf-8", "replace")
    print(f"{commands}{printed}({time.perf_counter() - started:.0f} s)\n", file=sys.stderr)
    if done.returncode:
        raise PageFailed(f"exit status {done.returncode}:\n{commands}{printed}")
    return printed


def _without_machine(printed: str, folder: Path) -> str:
    """The same on every machine, but for what was measured."""
    printed = printed.replace(f"{folder}{os.sep}", "").replace(str(folder), ".")
    printed = re.sub(r" {2}[\d,]+ tokens/s, \S+ TFLOP/s(, \d+%)?", "", printed)
    printed = re.sub(r"\b\d+\.\d s$", "... s", printed, flags=re.M)
    printed = re.sub(r"^─+( .+ )─+$", r"────────\1────────", printed, flags=re.M)
    shown = "".join(
        c if c == "\n" or c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in printed
    )
    return "".join(f"{line}\n" for long in shown.splitlines() for line in _wrapped(long.rstrip()))


def _wrapped(line: str) -> list[str]:
    """A line as a narrow terminal shows it, between words; the rows of a table stay whole."""
    if len(line) <= COLUMNS or "│" in line or "━" in line:
        return [line]
    return textwrap.wrap(line, COLUMNS, break_long_words=False, break_on_hyphens=False)


def main() -> None:
    """Run a page and rewrite it."""
    parser = argparse.ArgumentParser(description="Run a page's commands, and rewrite their output.")
    parser.add_argument("page", type=Path)
    parser.add_argument("--small", action="store_true", help="run them small, and leave the page")
    asked = parser.parse_args()
    page = asked.page.read_text(encoding="utf-8")
    started = time.perf_counter()
    folder = Path(tempfile.mkdtemp(prefix=f"{asked.page.stem}-"))
    try:
        written = run_page(page, folder, smaller=asked.small)
    except PageFailed as failed:
        sys.exit(f"{failed}\nwhat was made until then is in {folder}")
    if not asked.small:
        asked.page.write_text(written, encoding="utf-8")
        for target, source in pictures(page).items():
            shutil.copyfile(folder / source, asked.page.parent / target)
    shutil.rmtree(folder)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"{(time.perf_counter() - started) / 60:.1f} minutes, "
        f"{(used.ru_utime + used.ru_stime) / 60:.1f} of a core"
    )


if __name__ == "__main__":
    main()
