"""The page of ``unmask analyze locality``, from its record alone."""

from pathlib import Path
from typing import Any

from unmask.analyze.page import Record, write_study
from unmask.plot.html import table, text


def write_locality(path: Path) -> Path:
    """Make, or make again, the page of ``locality.json``; as `write_study`."""
    return write_study(
        path,
        title=lambda record: "Locality of {source}, {tokenizer}".format(**record["corpus"]),
        plots=_plots,
        above=lambda record: _run(record["run"]),
        below=lambda record: [_distances(record), _machine(record)],
    )


def _plots(record: Record) -> list[Any]:
    from unmask.analyze.locality.plots import all_plots  # noqa: PLC0415 - see write_study

    return list(all_plots(record))


def _run(run: Record | None) -> list[str]:
    """What is said of the run, if one was looked at."""
    if run is None:
        return []
    said = (
        f"Run {run['folder']}, step {run['step']:,}, recipe {run['recipe']}; validation NELBO "
        f"{run['nelbo']:.4f} ± {run['stderr']:.4f} nats per token on {run['blocks']} blocks."
    )
    return [f'<p class="faint">{text(said)}</p>']


def _distances(record: Record) -> str:
    found = record["mutual_information"]
    rows = [
        (str(d), f"{nats:.4f}", f"± {error:.4f}", f"{plugin:.4f}")
        for d, nats, error, plugin in zip(
            *(found[key] for key in ("distances", "nats", "stderr", "plugin")), strict=True
        )
    ]
    heads = ("distance", "nats", "standard error", "plug-in")
    return (
        "<h2>Numbers</h2>\n<details><summary>Information by distance</summary>"
        f"{table('distances', heads, rows)}</details>"
    )


def _machine(record: Record) -> str:
    facts = {**record["machine"], **record["versions"], "SHA-256": record["corpus"]["sha256"]}
    parts = [f"<dt>{text(key)}</dt><dd>{text(value)}</dd>" for key, value in facts.items()]
    return f"<h2>Machine and versions</h2>\n<dl>{''.join(parts)}</dl>"
