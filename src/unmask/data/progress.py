"""What the user sees while documents are read: a spinner with a count, or nothing."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from unmask.base.text import visible

Watch = Callable[[Iterable[str]], Iterable[str]]

_EVERY = 256  # documents between two updates: an update takes longer than a short document


class Display:
    """Shows the stages of the work on a console; silent without one."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console

    @contextmanager
    def stage(self, title: str) -> Iterator[Watch]:
        """Show ``title`` while the block runs; documents passed through its value are counted."""
        if self._console is None or not self._console.is_terminal:
            yield lambda documents: documents
            return
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.completed:,.0f} documents"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task(visible(title), total=None)

            def watch(documents: Iterable[str]) -> Iterator[str]:
                for number, text in enumerate(documents, 1):
                    yield text
                    if number % _EVERY == 0:
                        progress.update(task, completed=number)

            yield watch
