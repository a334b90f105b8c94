"""A text on its way, as HTML."""

from dataclasses import dataclass
from typing import Any

from unmask.base.wording import counted
from unmask.data.tokenizers import Tokenizer
from unmask.play.cells import Cell, cells, token_name
from unmask.play.trace import Reveal, Trace
from unmask.plot.page import render
from unmask.recipe.parse import parse_recipe
from unmask.run import Run

_MOST_TIPS = 256
"""Tokens of a text on its way that are shown with their alternatives; a finished one has all."""


@dataclass(frozen=True)
class Frame:
    """What is shown of a run's text.

    Attributes:
        step: up to which step; more than there are is the last.
        done: whether the text is finished or was stopped.
        problem: why there is no more.
    """

    step: int = 0
    done: bool = False
    problem: str | None = None


def view(run: Run, trace: Trace, frame: Frame) -> str:
    """The text of a run after a step, its tokens with colours and alternatives."""
    step = min(frame.step, trace.steps)
    ids, came = trace.at(step)
    # A run on padded blocks learnt one document a block: its text ends at the first separator.
    pad, separator = run.config.corpus.packing == "pad", run.tokenizer.separator_id
    end = next((i for i in sorted(came) if pad and ids[i] == separator), len(ids))
    tips = frame.done or len(ids) <= _MOST_TIPS
    shown = [
        _shown(cell, run.tokenizer, trace.steps, end, tips)
        for cell in cells(run.tokenizer, ids, came)
    ]
    name = parse_recipe(run.config.recipe).name
    page = render(
        "play/view.html",
        title=str(run.folder),
        recipe=run.config.recipe,
        about=f"{name}, after {counted(run.checkpoint.progress.step, 'step')} of training",
        step=step,
        steps=trace.steps,
        done=frame.done,
        problem=frame.problem,
        hidden=sum(cell["hidden"] for cell in shown),
        cells=shown,
    )
    return page.decode()


def _shown(cell: Cell, tokenizer: Tokenizer, steps: int, end: int, tips: bool) -> dict[str, Any]:
    if not cell.came:
        return {"text": cell.text, "hidden": cell.hidden, "came": False}
    text = cell.text or token_name(tokenizer, cell.came[0].token)
    return {
        "text": text.replace("\n", "↵\n"),
        "hidden": False,
        "came": True,
        "beyond": cell.came[0].position >= end,
        "early": (cell.step - 1) / max(steps - 1, 1),
        "certainty": cell.certainty or 0.0,
        "tips": [_tip(reveal, tokenizer) for reveal in cell.came] if tips else [],
    }


def _tip(reveal: Reveal, tokenizer: Tokenizer) -> dict[str, Any]:
    listed = [(other.token, other.probability) for other in reveal.alternatives]
    if reveal.certainty is not None and reveal.token not in dict(listed):
        listed.append((reveal.token, reveal.certainty))
    return {
        "name": token_name(tokenizer, reveal.token),
        "step": reveal.step,
        "certainty": None if reveal.certainty is None else percent(reveal.certainty),
        "others": [
            {
                "name": token_name(tokenizer, token),
                "probability": p,
                "percent": percent(p),
                "drawn": token == reveal.token,
            }
            for token, p in listed
        ],
    }


def percent(p: float) -> str:
    """A probability with two digits at least: ``100%``, ``37%``, ``0.42%``, ``0.0031%``."""
    if p == 0:
        return "0%"
    digits = 0 if p >= 0.0995 else 1 if p >= 0.00995 else 2 if p >= 0.000995 else 4
    return f"{100 * p:.{digits}f}%" if p >= 1e-6 else f"{100 * p:.1e}%"
