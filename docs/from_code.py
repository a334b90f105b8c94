"""Fill in what pages of the site show from the code: a hook of mkdocs.

A line ``<!-- from the code: NAME -->`` of a page becomes what the function NAME in `PARTS` returns.
"""

import ast
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from functools import cache
from html import escape
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import tyro

from unmask.cli.base import ADAPTING_PRESET
from unmask.cli.commands import Group
from unmask.cli.main import COMMANDS
from unmask.config import load_preset, preset_names

PACKAGE = Path(import_module("unmask").__path__[0])
MARK = re.compile(r"^<!-- from the code: (\S+) -->$", re.MULTILINE)
SHORT = re.compile(r"<code>([^<\n]{1,28})</code>")
DEFAULT = re.compile(r"\s*\((required|repeatable|default: .*)\)\s*$", re.DOTALL)


def on_page_markdown(markdown: str, **_: object) -> str:
    """Called by mkdocs for each page."""
    return MARK.sub(lambda found: PARTS[found[1]](), markdown)


def on_page_content(html: str, **_: object) -> str:
    """Called by mkdocs with each page's HTML: code of a name's length does not break."""
    return SHORT.sub(r'<code class="short">\1</code>', html)


# Commands


def commands() -> str:
    """Every command with every option, in the groups of its help."""
    shown: dict[str, str] = {}  # groups of options by their text, and the command that has them
    return "\n\n".join(_section(words, about, shown) for words, about in every_command())


def every_command(group: Group = COMMANDS) -> Iterator[tuple[list[str], str]]:
    """The words of each command after ``unmask``, and what it does."""
    for name, about in group.commands.items():
        words = [*group.name.split()[1:], name]
        yield words, about
        module = import_module(f"{group.package}.{name}")
        for found in list(vars(module).values()):
            if isinstance(found, Group) and found.name == " ".join(["unmask", *words]):
                yield from every_command(found)


def parser_of(words: list[str]) -> Any:
    """The parser that a command reads its options with; None where it only names others."""
    made: list[Any] = []

    def instead(kind: Any, *, args: object, **given: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            made.append(tyro.extras.get_parser(kind, **given))
        raise SystemExit(0)

    with patch.object(tyro, "cli", instead), suppress(SystemExit), redirect_stdout(StringIO()):
        COMMANDS.run([*words, "--help"])
    return made[0] if made else None


def _section(words: list[str], about: str, shown: dict[str, str]) -> str:
    name = " ".join(["unmask", *words])
    lines = [f"{'#' * (len(words) + 1)} `{name}`"]
    parser = parser_of(words)
    if parser is None:
        return "\n\n".join([*lines, about[0].upper() + about[1:] + "."])
    lines.append(_prose(parser.description or about))
    for group in parser._action_groups:
        actions = [a for a in group._group_actions if "--help" not in a.option_strings]
        if not actions:
            continue
        options = "\n\n".join(map(_option, actions))
        title = f"**{group.title[0].upper()}{group.title[1:]}**"
        if options in shown:
            place = shown[options]
            anchor = place.replace(" ", "-")
            lines.append(f"{title}: those of [`{place}`](#{anchor}), with the same defaults.")
            continue
        lines.append(f"{title}: {_prose(group.description)}" if group.description else title)
        lines.append(options)
        if len(actions) > 1:
            shown[options] = name
    return "\n\n".join(lines)


def _option(action: Any) -> str:
    text = action.help or ""
    found = DEFAULT.search(text)
    text, default = (text[: found.start()], found[1]) if found else (text, "")
    kind = action.metavar if action.metavar is not None else ""
    spelt = ", ".join(f"`{flag}`" for flag in action.option_strings)
    shown = f"{spelt} `{kind}`" if spelt and kind else spelt or f"`{kind}`"
    given = default.removeprefix("default:").strip()
    if given and default.startswith("default:"):
        default = f"default: `{given}`"
    return f"{shown}{f' ({default})' if given else ''}\n:   {_prose(text)}"


def _prose(text: str) -> str:
    """Help as Markdown: nothing in it is markup but its examples."""
    text = re.sub(r"\s*\n\s*\n\s*", "\n\n", text.strip()).replace("``", "`")
    text = re.sub(r"(?<=Example: )(unmask .*)$", r"`\1`", text, flags=re.MULTILINE)
    parts = re.split(r"(`[^`]*`)", text)
    plain = (re.sub(r"([*_<\[\]|\\])", r"\\\1", part) for part in parts[::2])
    quoted = [*parts[1::2], ""]
    return "".join(a + b for a, b in zip(plain, quoted, strict=True))


# Presets


def presets() -> str:
    """What each preset sets, a row each."""
    rows = [
        "| `--preset` | layers x width | corpus | tokenizer | block | optimiser | batch x steps |"
    ]
    rows.append("|" + "---|" * 7)
    for name in preset_names():
        config = load_preset(name)
        model, corpus, train = config.model, config.corpus, config.train
        size, tokenizer = f"{model.layers} x {model.width}", f"`{corpus.tokenizer}`"
        if name == ADAPTING_PRESET:
            size = tokenizer = "the model's"
        cells = [f"`{name}`", size, f"`{corpus.source}`", tokenizer, f"{corpus.block_size}"]
        cells.append(f"{train.optimizer}, {train.learning_rate:g}")
        cells.append(f"{train.batch_size} x {train.steps:,}")
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


# Rooms


def rooms() -> str:
    """Which room imports which: a dot for each pair, as large as the imports are many."""
    uses = imports_of_rooms()
    names = in_order(uses)
    cell, left, top = 22, 82, 82
    size = cell * len(names)
    lines = [
        f'<svg viewBox="0 0 {left + size} {top + size}" role="img" class="rooms" '
        'aria-label="Which room imports which">'
    ]
    for i, name in enumerate(names):
        x, y = left + cell * (i + 0.5), top + cell * (i + 0.5)
        if i % 2 == 0:
            lines.append(
                f'<rect x="0" y="{y - cell / 2}" width="{left + size}" height="{cell}" '
                'class="stripe"/>'
            )
        lines.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{escape(name)}</text>')
        lines.append(f'<text transform="translate({x + 4} {top - 8}) rotate(-90)">{name}</text>')
        lines.append(f'<rect x="{x - 4}" y="{y - 4}" width="8" height="8" class="itself"/>')
        for other, n in sorted(uses[name].items()):
            x = left + cell * (names.index(other) + 0.5)
            title = f"{name} imports {other}, {n} {'time' if n == 1 else 'times'}"
            radius = min(3 + n**0.5 * 0.8, cell / 2 - 1)
            lines.append(
                f'<circle cx="{x}" cy="{y}" r="{radius:.1f}"><title>{title}</title></circle>'
            )
    return "\n".join([*lines, "</svg>"])


@cache
def imports_of_rooms() -> dict[str, Counter[str]]:
    """For each room, how many import statements name each other room."""
    uses: dict[str, Counter[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room.startswith("__"):
            continue
        found = uses.setdefault(room, Counter())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("unmask."):
                other = str(node.module).split(".")[1]
                if other != room:
                    found[other] += 1
    return uses


def in_order(uses: dict[str, Counter[str]]) -> list[str]:
    """The rooms, lowest first: each after all that it imports."""
    left, ordered = dict(uses), []
    while left:
        free = sorted((room for room in left if not set(left[room]) & set(left)), key=len)
        if not free:
            raise ValueError(f"rooms import each other: {', '.join(left)}")
        ordered += free
        for room in free:
            del left[room]
    return ordered


PARTS = {"commands": commands, "presets": presets, "rooms": rooms}
