"""A page from one record of a study: its conclusion, tables and plots."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from unmask.base.errors import UserError
from unmask.base.files import write_whole
from unmask.plot.html import document, text

Record = dict[str, Any]


def write_study(
    path: Path,
    *,
    title: Callable[[Record], str],
    plots: Callable[[Record], Iterable[Any]],
    above: Callable[[Record], list[str]],
    below: Callable[[Record], list[str]],
) -> Path:
    """Make, or make again, the page and pictures of a record, beside it.

    The same record gives the same bytes.

    Args:
        path: the record, JSON with the two lines of its ``conclusion``.
        title: of the page, not escaped.
        plots: each a `unmask.plot.figure.Plot`, drawn by `unmask.plot.pictures.sections`.
        above, below: HTML before and after the plots.

    Returns:
        The path of ``index.html``.

    Raises:
        UserError: the record is not there or damaged.
    """
    # Here, because matplotlib takes a while and this module is imported by the command line.
    from unmask.plot.pictures import sections  # noqa: PLC0415

    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        drawn = sections(lambda: plots(record), path.parent)
        lead = [f"<h1>{text(title(record))}</h1>"]
        lead += [f"<p>{text(line)}</p>" for line in record["conclusion"]]
        body = "\n".join([*lead, *above(record), *drawn, *below(record)])
        content = document(title(record), body)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}: {error})") from None
    page = path.parent / "index.html"
    write_whole(page, content.encode("utf-8", "replace"))
    return page
