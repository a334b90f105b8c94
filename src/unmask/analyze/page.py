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


def save_record(record: Record, path: Path) -> Path:
    """Write a record as JSON; returns the path."""
    write_whole(path, json.dumps(record, indent=1, allow_nan=False).encode())
    return path


def write_page(path: Path, template: str, plots: Callable[[Record], Iterable[Plot]]) -> Path:
    """Make, or make again, the page and pictures of a record, beside it.

    The same record gives the same bytes.

    Args:
        path: the record, JSON with the two lines of its ``conclusion``.
        template: of the page, which extends ``analyze/page.html``; it is given the ``record``.
        plots: drawn from the record.

    Returns:
        The path of ``index.html``.

    Raises:
        UserError: the record is not there or damaged.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        drawn = draw(lambda: plots(record), path.parent)
        content = render(template, record=record, plots=drawn)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, IndexError, UndefinedError) as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}: {error})") from None
    page = path.parent / "index.html"
    write_whole(page, content)
    return page
