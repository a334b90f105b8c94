"""What the user sees while documents are read: a bar with the time left, or lines in a log."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from unmask.base.text import visible
from unmask.base.wording import counted
from unmask.data.documents import Document, Documents

Watch = Callable[[Documents], Iterable[Document]]

_EVERY = 256  # documents between two updates: an update takes longer than a short document
_FIRST_LINE = 10.0  # seconds to the first line that says how long it will take
_MORE_PATIENCE = 3  # times as long, for each line after it


class Display:
    """Shows the stages of the work on a console; silent without one."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console

    @property
    def silent(self) -> bool:
        """Whether there is no console."""
        return self._console is None

    def line(self, text: str) -> None:
        """Print a line as it is."""
        if self._console is not None:
            self._console.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)

    @contextmanager
    def stage(self, title: str) -> Iterator[Watch]:
        """Show ``title`` while the block runs; documents passed through its value are counted."""
        if self._console is None:
            yield lambda documents: documents
        elif self._console.is_terminal:
            with self._bar(title, self._console) as watch:
                yield watch
        else:
            yield lambda documents: self._told(title, documents)

    def _told(self, title: str, documents: Documents) -> Iterator[Document]:
        """Say when reading begins and ends: nothing where the cache has what would be read."""
        self.line(f"{title} ...")
        start, number, due = time.monotonic(), 0, _FIRST_LINE
        for number, text in enumerate(documents, 1):  # noqa: B007
            yield text
            if (taken := time.monotonic() - start) > due:
                due *= _MORE_PATIENCE
                if part := documents.read_part():
                    left = taken / part - taken
                    self.line(f"{title}: {part:.0%} after {taken:.0f} s, about {left:.0f} s left")
        self.line(f"{title}: {counted(number, 'document')} in {time.monotonic() - start:.1f} s")

    @contextmanager
    def _bar(self, title: str, console: Console) -> Iterator[Watch]:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[documents]:,} documents"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task(visible(title), total=None, documents=0)

            def watch(documents: Documents) -> Iterator[Document]:
                for number, text in enumerate(documents, 1):
                    yield text
                    if number % _EVERY == 0:
                        part = documents.read_part()
                        total = None if part is None else 1.0
                        progress.update(task, completed=part, total=total, documents=number)

            yield watch
