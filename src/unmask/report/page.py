"""The page of the report: one file of HTML that needs nothing else."""

import re
from collections.abc import Iterable, Sequence
from html import escape

from unmask.report.palette import INK, colour
from unmask.report.records import Arm, Comparison, Record, Run

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


def page(comparison: Comparison, plots: Iterable[str], table: str) -> str:
    """The whole page.

    Args:
        comparison: what it is about.
        plots: sections with a plot each, from `plot_section`.
        table: the summary, from `unmask.report.tables`.
    """
    others = [arm.name for arm in comparison.arms if arm is not comparison.baseline]
    compared = " and ".join(others) if len(others) <= 2 else f"{len(others)} recipes"
    title = f"{compared} against {comparison.baseline.name}"
    body = "\n".join(
        [
            f"<h1>{text(title)}</h1>",
            *_introduction(comparison),
            "<h2>Speed-up and final bound</h2>",
            table,
            *plots,
            _samples(comparison.arms),
            _runs(comparison.arms),
            _recipes(comparison),
            _machine(comparison),
        ]
    )
    return document(title, body)


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


def named(arm: Arm) -> str:
    """An arm's name with a patch of its colour."""
    shade = "var(--ink)" if colour(arm.index) == INK else colour(arm.index)
    pieces = "<wbr>".join(text(piece) for piece in re.split(r"(?<=[+:,])", arm.name))
    return f'<span class="swatch" style="background:{shade}"></span>{pieces}'


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


def state_of(run: Run) -> str:
    """How a run ended, with the step for one that is not done."""
    if run.state in ("done", "no records") or not run.last_step:
        return run.state
    return f"{run.state} after step {run.last_step:,}"


def _introduction(comparison: Comparison) -> list[str]:
    others = ", ".join(f"<b>{text(arm.name)}</b>" for arm in comparison.arms[1:])
    seeds = len(comparison.seeds)
    lines = [
        f"<p>Compared with <b>{text(comparison.baseline.name)}</b>, the baseline: {others}. "
        f"{'One seed' if seeds == 1 else f'{seeds} seeds'}; within a seed all share the initial "
        "weights, the order of the data and the noise of the evaluation.</p>"
    ]
    facts = comparison.corpus
    if facts.get("source"):
        said = f"Corpus {facts['source']}, tokenizer {facts.get('tokenizer', 'unknown')}"
        if facts.get("transform", "none") != "none":
            said += f", tokens of a block in another order ({facts['transform']})"
        train = facts.get("train")
        if isinstance(train, dict) and isinstance(train.get("tokens"), int):
            said += f", {train['tokens']:,} tokens to train on"
        lines.append(f'<p class="faint">{text(said)}.</p>')
    unfinished = [
        f"{text(arm.name)}, seed {run.seed}: {text(state_of(run))}"
        for arm in comparison.arms
        for run in arm.runs
        if not run.done
    ]
    if unfinished:
        lines.append(
            f'<p class="warn">Not done, and so left out of the numbers: {"; ".join(unfinished)}.'
            "</p>"
        )
    damaged = sum(run.damaged for arm in comparison.arms for run in arm.runs)
    if damaged:
        lines.append(
            f'<p class="warn">{damaged} {"line" if damaged == 1 else "lines"} of metrics.jsonl '
            "could not be read and left out; the runs below say where.</p>"
        )
    return lines


def _samples(arms: list[Arm]) -> str:
    parts = []
    for arm in arms:
        if arm.samples:
            step, texts = arm.samples
            blocks = "".join(f"<pre>{text(sample)}</pre>" for sample in texts)
            head = f'<h3>{named(arm)}</h3><div class="small">after step {step:,}</div>'
            parts.append(f"<div>{head}{blocks}</div>")
    if not parts:
        return ""
    intro = "The first texts of each recipe's first run; none was chosen."
    grid = f'<div class="samples">{"".join(parts)}</div>'
    return f'<h2>Samples</h2>\n<p class="faint">{intro}</p>\n{grid}'


def _runs(arms: list[Arm]) -> str:
    rows = []
    for arm in arms:
        for number, run in enumerate(arm.runs):
            cells = "".join(f"<td>{cell}</td>" for cell in _run_cells(run))
            if number == 0:
                head = f'<th class="name" rowspan="{len(arm.runs)}">{named(arm)}</th>'
                rows.append(f'<tr class="first">{head}{cells}</tr>')
            else:
                rows.append(f"<tr>{cells}</tr>")
    columns = "seed,state,steps,tokens,training seconds,tokens/s,NELBO,perplexity,bits/byte"
    heads = "".join(f"<th>{head}</th>" for head in columns.split(","))
    return (
        '<h2>Runs</h2>\n<div class="scroll"><table id="runs"><thead><tr><th class="name">recipe'
        f"</th>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>\n"
        '<p class="faint">The last evaluation of each run. Tokens per second: the median of the '
        "training lines. Runs that shared a machine slowed each other down.</p>"
    )


def _run_cells(run: Run) -> list[str]:
    last: Record = run.evals[-1] if run.evals else {}
    speeds = sorted(r["tokens_per_second"] for r in run.trains if r.get("tokens_per_second"))
    speed = speeds[len(speeds) // 2] if speeds else None
    state = text(state_of(run))
    if not run.done:
        state = f'<span class="warn">{state}</span>'
    if run.damaged:
        state += f'<small class="warn">{run.damaged} damaged lines left out</small>'
    return [
        str(run.seed),
        state,
        f"{run.last_step:,}",
        _number(last.get("tokens_seen"), ",.0f"),
        _number(last.get("seconds"), ",.1f"),
        _number(speed, ",.0f"),
        _number(last.get("nelbo"), ".4f"),
        _number(last.get("ppl"), ",.2f"),
        _number(last.get("bits_per_byte"), ".4f"),
    ]


def _number(value: object, form: str) -> str:
    return format(value, form) if isinstance(value, int | float) else ""


def _recipes(comparison: Comparison) -> str:
    parts = [
        f"<dt>{named(arm)}</dt><dd><code>{text(arm.spec)}</code></dd>" for arm in comparison.arms
    ]
    shown = f'<h2>Recipes in full</h2>\n<dl class="specs">{"".join(parts)}</dl>'
    if comparison.config:
        shown += (
            "\n<details><summary>Configuration of the baseline's first run; the others differ in "
            f"seed, recipe and what their names add</summary>\n<pre>{text(comparison.config)}"
            "</pre></details>"
        )
    return shown


def _machine(comparison: Comparison) -> str:
    facts = comparison.machine | comparison.versions
    parts = [f"<dt>{text(key)}</dt><dd>{text(value)}</dd>" for key, value in facts.items()]
    return f"<h2>Machine and versions</h2>\n<dl>{''.join(parts)}</dl>"
