"""What the user sees while documents are read: a spinner, or a line before and after."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from unmask.base.text import visible
from unmask.base.wording import counted

Watch = Callable[[Iterable[str]], Iterable[str]]

_EVERY = 256  # documents between two updates: an update takes longer than a short document


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
            with self._spinner(title, self._console) as watch:
                yield watch
        else:
            yield lambda documents: self._told(title, documents)

    def _told(self, title: str, documents: Iterable[str]) -> Iterator[str]:
        """Say when reading begins and ends: nothing where the cache has what would be read."""
        self.line(f"{title} ...")
        start, number = time.monotonic(), 0
        for number, text in enumerate(documents, 1):  # noqa: B007
            yield text
        self.line(f"{title}: {counted(number, 'document')} in {time.monotonic() - start:.1f} s")

    @contextmanager
    def _spinner(self, title: str, console: Console) -> Iterator[Watch]:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.completed:,.0f} documents"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task(visible(title), total=None)

            def watch(documents: Iterable[str]) -> Iterator[str]:
                for number, text in enumerate(documents, 1):
                    yield text
                    if number % _EVERY == 0:
                        progress.update(task, completed=number)

            yield watch
