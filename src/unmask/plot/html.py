"""A page of HTML that needs nothing else, and its pieces."""

from collections.abc import Iterable, Sequence
from html import escape

_STYLE = """
:root { color-scheme: light dark; --ink: #16181d; --paper: #ffffff; --faint: #5b6270;
        --line: #d9dce2; --shade: #f5f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e6ea; --paper: #16181d; --faint: #a0a7b4; --line: #383d47; --shade: #1f232a; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
       font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 .6rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .6rem; }
h3 { font-size: 1rem; margin: 0 0 .4rem; overflow-wrap: anywhere; }
p { max-width: 46rem; margin: .6rem 0; overflow-wrap: anywhere; }
.faint, figcaption, .small { color: var(--faint); font-size: .9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; vertical-align: top; padding: .35rem .55rem; white-space: nowrap; }
th { font-weight: 600; }
thead th { border-bottom: 2px solid var(--line); vertical-align: bottom; }
tbody tr.first > * { border-top: 1px solid var(--line); }
tbody tr:first-child > * { border-top: 0; }
th.name, td.text { text-align: left; white-space: normal; overflow-wrap: anywhere; }
th.name { min-width: 12rem; max-width: 20rem; }
td.text { min-width: 8rem; }
td small, th small { display: block; color: var(--faint); font-size: .8rem; font-weight: 400; }
.warn { color: #b3400a; } @media (prefers-color-scheme: dark) { .warn { color: #ff9a5c; } }
.swatch { display: inline-block; width: .7em; height: .7em; border-radius: 2px;
          margin-right: .45em; }
figure { margin: 0; } figure svg { display: block; width: 100%; max-width: 64rem; height: auto; }
figcaption { max-width: 50rem; margin-top: .4rem; overflow-wrap: anywhere; }
.samples { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); }
pre { margin: 0 0 .6rem; padding: .7rem .8rem; background: var(--shade); border-radius: 6px;
      font: .82rem/1.5 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
      white-space: pre-wrap; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; font-size: .9rem; }
dt { color: var(--faint); } dd { margin: 0; overflow-wrap: anywhere; }
dl.specs { grid-template-columns: 1fr; } dl.specs dd { margin-bottom: .6rem; }
code { font: .92em ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
       overflow-wrap: anywhere; }
a { color: inherit; } summary { cursor: pointer; }
@media print { main { max-width: none; } figure, tr { break-inside: avoid; } }
"""

# Nothing may be fetched or run, whatever a name or a sample contains.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"

# Control characters, which byte models write and HTML forbids, as Python would show them.
_CONTROL = {
    code: f"\\x{code:02x}" for code in [*range(32), *range(127, 160)] if code not in (9, 10)
}


def document(title: str, body: str) -> str:
    """A page around its content.

    Args:
        title: plain text.
        body: HTML.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>unmask: {text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def text(value: object) -> str:
    """Anything as text of an HTML page."""
    return escape(str(value).translate(_CONTROL))


def plot_section(title: str, name: str, svg: str, caption: str) -> str:
    """A section with a plot; the picture of it lies beside the page."""
    return (
        f'<h2>{text(title)}</h2>\n<figure id="{name}">\n{svg}\n'
        f'<figcaption>{text(caption)} <a href="{name}.png">PNG</a></figcaption>\n</figure>'
    )


def table(name: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of plain cells that scrolls where it is too wide."""
    top = "".join(f"<th>{text(head)}</th>" for head in heads)
    body = "".join(f"<tr>{''.join(f'<td>{text(c)}</td>' for c in row)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table id="{name}"><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
