"""The page of ``unmask analyze interventions``, from its record alone."""

from pathlib import Path
from typing import Any

from unmask.analyze.page import Record, write_study
from unmask.plot.html import text


def write_interventions(path: Path) -> Path:
    """Make, or make again, the page of ``interventions.json``; as `write_study`."""
    return write_study(
        path,
        title=lambda record: "The same recipes with transform {} and with {}".format(
            *record["transforms"]
        ),
        plots=_plots,
        above=lambda record: [_table(record)],
        below=lambda record: [_reading(record)],
    )


def _plots(record: Record) -> list[Any]:
    from unmask.analyze.interventions.plots import changes, curves  # noqa: PLC0415 - see write_study

    return [curves(record), changes(record)]


def _table(record: Record) -> str:
    """Last bounds, differences and speed-ups of both comparisons, and what changes."""
    rows = []
    for key, setting in zip(("with", "without"), record["settings"], strict=True):
        for number, recipe in enumerate(setting["recipes"]):
            effect = next((e for e in record["effects"] if e["recipe"] == recipe["name"]), None)
            cells = [_nats(recipe["final"], "")]
            cells += _effect_cells(effect, key) if effect else ["baseline", "", ""]
            head = (
                f'<th class="name" rowspan="{len(setting["recipes"])}">'
                f"{text(setting['transform'])}</th>"
                if number == 0
                else ""
            )
            rows.append(_row(head, recipe["name"], cells, first=number == 0))
    for number, effect in enumerate(record["effects"]):
        head = f'<th class="name" rowspan="{len(record["effects"])}">change</th>'
        cells = ["", *_effect_cells(effect, "change")]
        rows.append(_row(head if number == 0 else "", effect["recipe"], cells, first=number == 0))
    columns = (
        "last bound<small>nats per token</small>",
        "difference<small>to the baseline</small>",
        "speed-up, 50%<small>in steps</small>",
        "speed-up, 100%<small>in steps</small>",
    )
    heads = "".join(f"<th>{column}</th>" for column in columns)
    return (
        '<h2>With and without</h2>\n<div class="scroll"><table id="interventions"><thead><tr>'
        f'<th class="name">transform</th><th class="name">recipe</th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _row(head: str, name: str, cells: list[str], *, first: bool) -> str:
    body = "".join(f"<td>{cell}</td>" for cell in cells)
    return (
        f'<tr{" class=first" if first else ""}>{head}<td class="text">{text(name)}</td>{body}</tr>'
    )


def _effect_cells(effect: Record, key: str) -> list[str]:
    levels = {level["percent"]: level[key] for level in effect["speed_up"]}
    return [_nats(effect["difference"][key], "+"), _times(levels[50]), _times(levels[100])]


def _nats(value: Record, sign: str) -> str:
    said = format(value["mean"], f"{sign}.4f")
    if value["low"] is None:
        return said
    return f"{said}<small>{value['low']:{sign}.4f} to {value['high']:{sign}.4f}</small>"


def _times(value: Record) -> str:
    if value["mean"] is None:
        return "not reached"
    said = f"{value['mean']:.2f}×"
    if value["low"] is None:
        return said
    return f"{said}<small>{value['low']:.2f}–{value['high']:.2f}</small>"


def _reading(record: Record) -> str:
    first, second = record["transforms"]
    base = record["settings"][0]["recipes"][0]["name"]
    seeds = len(record["seeds"])
    spread = (
        "Intervals are 95%, Student's t over the seeds, on the logarithm for ratios; changes are "
        "paired by seed."
        if seeds > 1
        else "One seed: there is no interval, and another seed may give other numbers."
    )
    lines = [
        f"{seeds} {'seed' if seeds == 1 else 'seeds'}. {spread}",
        f"A change is the row with {second} less the one with {first}, for speed-ups divided by "
        f"it. A speed-up: how many times sooner than {base}, of the same transform, a recipe "
        f"reaches the bound that {base} has at half or all of its steps.",
        f"A transform moves a block's tokens and changes none, so its entropy stays and all bounds "
        f"are of the same text. Token frequencies alone give {record['unigram']:.3f} nats per "
        "token: what a model has below that it has learnt from context.",
    ]
    for order in record["other_order"]:
        lines.append(
            f"{order['recipe']} with {second} is the twin that predicts the same text in that "
            f"order: against {base} with {first} it has {order['difference']['mean']:+.4f} nats "
            "per token."
        )
    lines.append(
        "The network sees positions in the transformed order, through rotary embeddings of their "
        "differences: once positions are permuted, how far apart two tokens were can no longer be "
        "read from that difference. A denoiser has no start symbol to count from, the twin has."
    )
    return "<h2>How to read it</h2>\n" + "\n".join(f"<p>{text(line)}</p>" for line in lines)
