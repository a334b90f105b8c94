"""The page of ``unmask analyze learnability``, from its record alone."""

from pathlib import Path
from typing import Any

from unmask.analyze.page import Record, write_study
from unmask.plot.html import text


def write_learnability(path: Path) -> Path:
    """Make, or make again, the page of ``learnability.json``; as `write_study`."""
    return write_study(
        path,
        title=lambda record: f"What is left to learn at each mask rate: {record['comparison']}",
        plots=_plots,
        above=lambda record: [_corpus(record), _table(record)],
        below=lambda record: [_how(record)],
    )


def _plots(record: Record) -> list[Any]:
    from unmask.analyze.learnability.plots import all_plots  # noqa: PLC0415 - see write_study

    return list(all_plots(record))


def _corpus(record: Record) -> str:
    facts = record["corpus"]
    if not facts.get("source"):
        return ""
    said = f"Corpus {facts['source']}, tokenizer {facts.get('tokenizer', 'unknown')}."
    return f'<p class="faint">{text(said)}</p>'


def _table(record: Record) -> str:
    """The reducible error of each recipe at its last step, bin by bin."""
    curves = record["curves"]
    n = len(curves["t"])
    heads = "".join(f"<th>{k / n:g}&ndash;{(k + 1) / n:g}</th>" for k in range(n))
    rows = [_lowest(curves)]
    for recipe in curves["recipes"]:
        left = "".join(f"<td>{value:.3f}</td>" for value in recipe["reducible"][-1])
        rows.append(
            f'<tr class="first"><th class="name">{text(recipe["name"])}<small>step '
            f"{recipe['steps'][-1]:,}</small></th><td>{recipe['nelbo'][-1]:.3f}</td>"
            f"<td>{recipe['learnable'][-1]:.3f}</td><td>{recipe['reducible_area'][-1]:.3f}</td>"
            f"{left}</tr>"
        )
    return (
        "<h2>Reducible error by mask rate</h2>\n"
        '<div class="scroll"><table id="reducible"><thead><tr><th class="name">recipe</th>'
        "<th>NELBO<small>nats per token</small></th><th>learnable<small>at least</small></th>"
        f"{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>\n"
        "<p>By mask rate: the mean cross-entropy per masked token (nats) above the lowest that any "
        "recipe, seed and step of this comparison had there. That lowest curve (first row) is an "
        "upper bound on the irreducible part: a better model would lower it, so what lies above it "
        f"is learnable at least.</p>{_twins(curves)}"
    )


def _lowest(curves: Record) -> str:
    """The row of the lowest curve."""
    cells = "".join(f"<td>{value:.3f}</td>" for value in curves["lowest"])
    return (
        '<tr><th class="name">lowest c(t) measured</th><td></td><td></td>'
        f"<td>{curves['lowest_area']:.3f}<small>its own area</small></td>{cells}</tr>"
    )


def _twins(curves: Record) -> str:
    """What the autoregressive twins say about the irreducible part."""
    said = ""
    for twin in curves["causal"]:
        said += (
            f"<p>{text(twin['name'])} has an exact likelihood of {twin['nelbo']:.3f} nats per "
            "token. A perfect denoiser's c(t) has the entropy of the text as its area, whatever "
            "the order, so this too is an upper bound on the irreducible area, "
        )
        if twin["nelbo"] < curves["lowest_area"]:
            said += f"and a lower one than the lowest curve's {curves['lowest_area']:.3f}: "
            said += "what a recipe has above it is learnable, though it says not at which t.</p>"
        else:
            said += f"but no lower than the lowest curve's {curves['lowest_area']:.3f}.</p>"
    return said


def _how(record: Record) -> str:
    """Which checkpoints, how much was measured, and where."""
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
