"""The page of the report: one file of HTML that needs nothing else."""

import re
from collections.abc import Iterable

from unmask.compare.records import Arm, Comparison, Record, Run
from unmask.plot.html import document, text
from unmask.plot.style import INK, colour


def page(comparison: Comparison, plots: Iterable[str], table: str) -> str:
    """The whole page.

    Args:
        comparison: what it is about.
        plots: sections with a plot each, from `plot_section`.
        table: the summary, from `unmask.compare.report.tables`.
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


def named(arm: Arm) -> str:
    """An arm's name with a patch of its colour."""
    shade = "var(--ink)" if colour(arm.index) == INK else colour(arm.index)
    pieces = "<wbr>".join(text(piece) for piece in re.split(r"(?<=[+:,])", arm.name))
    return f'<span class="swatch" style="background:{shade}"></span>{pieces}'


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
