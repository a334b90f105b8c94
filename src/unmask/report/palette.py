"""Colours by arm: the same in the plots and in the page."""

INK = "#16181d"
"""Text, axes and the baseline; the page shows it in its own text colour, light or dark."""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's, which colour-blind readers tell apart, less their yellow (faint on white)."""


def colour(index: int) -> str:
    """Colour of the arm at a place in the comparison, 0 the baseline."""
    return INK if index == 0 else COLOURS[(index - 1) % len(COLOURS)]
