"""The page of ``unmask analyze learnability``, from its record alone."""

import json
from pathlib import Path
from typing import Any

from unmask.errors import UserError
from unmask.files import write_whole


def write_learnability(path: Path) -> Path:
    """Make, or make again, the page and pictures of a record, beside it.

    Args:
        path: ``learnability.json``.

    Returns:
        The path of ``index.html``.

    Raises:
        UserError: the record is not there or damaged.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        # Here, because matplotlib takes a while and this module is imported by the command line.
        from unmask.report import learnability_plots as plots  # noqa: PLC0415
        from unmask.report import style  # noqa: PLC0415
        from unmask.report.page import document, plot_section, text  # noqa: PLC0415

        sections = []
        with style.settings():
            for plot in plots.all_plots(record):
                write_whole(path.parent / f"{plot.name}.png", style.as_png(plot.figure))
                svg = style.as_svg(plot.figure, plot.name, text(plot.title))
                sections.append(plot_section(plot.title, plot.name, svg, plot.caption))
        title = f"What is left to learn at each mask rate: {record['comparison']}"
        lead = "".join(f"<p>{text(line)}</p>" for line in record["conclusion"])
        body = [f"<h1>{text(title)}</h1>", lead, _corpus(record), _table(record), *sections]
        body.append(_how(record))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}: {error})") from None
    page = path.parent / "index.html"
    write_whole(page, document(title, "\n".join(body)).encode("utf-8", "replace"))
    return page


def _corpus(record: dict[str, Any]) -> str:
    from unmask.report.page import text  # noqa: PLC0415

    facts = record["corpus"]
    if not facts.get("source"):
        return ""
    said = f"Corpus {facts['source']}, tokenizer {facts.get('tokenizer', 'unknown')}."
    return f'<p class="faint">{text(said)}</p>'


def _table(record: dict[str, Any]) -> str:
    """The reducible error of each recipe at its last step, bin by bin."""
    from unmask.report.page import text  # noqa: PLC0415

    curves = record["curves"]
    n = len(curves["t"])
    heads = "".join(f"<th>{k / n:g}&ndash;{(k + 1) / n:g}</th>" for k in range(n))
    rows = [_row("lowest measured", "", curves["lowest_area"], curves["lowest"])]
    for recipe in curves["recipes"]:
        left = "".join(f"<td>{value:.3f}</td>" for value in recipe["reducible"][-1])
        rows.append(
            f'<tr class="first"><th class="name">{text(recipe["name"])}<small>step '
            f"{recipe['steps'][-1]:,}</small></th><td>{recipe['nelbo'][-1]:.3f}</td>"
            f"<td>{recipe['reducible_area'][-1]:.3f}</td>{left}</tr>"
        )
    causal = "".join(
        f"<p>The exact likelihood of {text(twin['name'])} reaches {twin['nelbo']:.3f} nats per "
        "token. A perfect denoiser's c(t) has the entropy of the text as its area, so this "
        f"{'bounds the area of the irreducible part lower' if lower else 'adds nothing'} "
        f"{'than' if lower else 'to'} the lowest curve&#39;s {curves['lowest_area']:.3f}.</p>"
        for twin in curves["causal"]
        for lower in (twin["nelbo"] < curves["lowest_area"],)
    )
    return (
        "<h2>Reducible error by mask rate</h2>\n"
        '<div class="scroll"><table id="reducible"><thead><tr><th class="name">recipe</th>'
        "<th>NELBO<small>nats per token</small></th><th>learnable<small>at least</small></th>"
        f"{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>\n"
        "<p>By mask rate: the mean cross-entropy per masked token (nats) above the lowest that any "
        "recipe, seed and step of this comparison had there. That lowest curve (first row) is an "
        "upper bound on the irreducible part: a better model would lower it, so what is called "
        f"learnable is so at least.</p>{causal}"
    )


def _row(name: str, step: str, total: float, values: list[float]) -> str:
    cells = "".join(f"<td>{value:.3f}</td>" for value in values)
    return (
        f'<tr><th class="name">{name}<small>c(t)</small></th><td>{total:.3f}'
        f"<small>its area</small></td><td></td>{cells}</tr>"
    )


def _how(record: dict[str, Any]) -> str:
    """Which checkpoints, how much was measured, and where."""
    from unmask.report.page import text  # noqa: PLC0415

    lines = [
        f"{c['recipe']}, seed {c['seed']}: checkpoints at {_steps(c['used'])}; kept were "
        f"{_steps(c['kept'])}."
        for c in record["checkpoints"]
    ]
    budget = ", ".join(f"{key.replace('_', ' ')} {v}" for key, v in record["budget"].items())
    facts = record["machine"] | record["versions"]
    machine = ", ".join(f"{key} {value}" for key, value in facts.items())
    lines += [
        "Gradients and transfer look at these checkpoints alone (a run keeps the last two and the "
        "best unless --train.keep says more); the curves use every evaluation.",
        f"Budget: {budget}. It took {record['seconds']:,.0f} seconds.",
        f"Made with: {machine}.",
    ]
    return "<h2>How it was measured</h2>\n" + "\n".join(f"<p>{text(line)}</p>" for line in lines)


def _steps(steps: list[int]) -> str:
    return f"step{'s' if len(steps) > 1 else ''} " + ", ".join(f"{step:,}" for step in steps)
