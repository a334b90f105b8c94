"""Consoles print what they are given: no markup, no emoji, no control characters on a terminal."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from unmask.base.text import visible


class PlainConsole(Console):
    """A `rich` console on which the users' and the models' text stays what it is.

    Strings, in tables too, are neither markup nor emoji codes; styling is `Text`'s alone. On a
    terminal control characters are made visible, whatever holds them. In a pipe or a file the
    console is wide enough for the tables, whatever the terminal is.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)
        if not self.is_terminal:
            self.width = 120

    def render_str(self, text: str, **options: Any) -> Text:
        """A string as it is; made visible here already, so that tables know its width."""
        return super().render_str(visible(text) if self.is_terminal else text, **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """What is printed, piece by piece: the cursor is moved by `rich` itself and no text."""
        for segment in super().render(renderable, options):
            if self.is_terminal and not segment.control:
                yield Segment(visible(segment.text), segment.style)
            else:
                yield segment
