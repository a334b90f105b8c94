"""From an analysis's record to its page: the conclusion, tables and plots."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from jinja2 import UndefinedError

from unmask.base.errors import UserError
from unmask.base.files import write_whole
from unmask.plot.figure import Plot, draw
from unmask.plot.page import render

Record = dict[str, Any]


def save_study(record: Record, path: Path, plots: Callable[[Record], Iterable[Plot]]) -> Path:
    """Write a record as JSON, and its page and pictures beside it, as `write_page`."""
    write_whole(path, json.dumps(record, indent=1, allow_nan=False).encode())
    return write_page(path, plots)


def write_page(path: Path, plots: Callable[[Record], Iterable[Plot]]) -> Path:
    """Make, or make again, the page and pictures of a record, beside it.

    The same record gives the same bytes.

    Args:
        path: the record, JSON with the two lines of its ``conclusion``; its name is the analysis's,
            whose ``page.html`` is the template.
        plots: drawn from the record.

    Returns:
        The path of ``index.html``.

    Raises:
        UserError: the record is not there or damaged.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        drawn = draw(lambda: plots(record), path.parent)
        content = render(f"analyze/{path.stem}/page.html", record=record, plots=drawn)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, IndexError, UndefinedError) as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}: {error})") from None
    page = path.parent / "index.html"
    write_whole(page, content)
    return page
