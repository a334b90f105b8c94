"""How a text came: which token at which step, and what else the model held likely there."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from unmask.diffusion.precision import finest
from unmask.play.request import Request
from unmask.run import Run
from unmask.sample import complete, continued, infill, sample

TOP = 5
"""Alternatives that are noted for each token."""


@dataclass(frozen=True)
class Alternative:
    """A token, and the model's probability of it."""

    token: int
    probability: float


@dataclass(frozen=True)
class Reveal:
    """A token that came.

    Attributes:
        step: when, from 1.
        position: where, from 0.
        token: which; the mask token where one was hidden again.
        certainty: the probability that the model gave to it, before temperature and top-p; None
            where it was not drawn from a prediction of that step.
        alternatives: the likeliest tokens there, the likeliest first; none has probability 0.
    """

    step: int
    position: int
    token: int
    certainty: float | None
    alternatives: tuple[Alternative, ...]


class Stopped(Exception):
    """A text that is no longer wanted."""


@dataclass
class Trace:
    """A text on its way; whoever watches it in another thread may read all but call `stop` alone.

    Attributes:
        start: the tokens before the first step, with masks; empty until that is done.
        reveals: in the order of their steps.
        steps: how many are done.
        text: what ``unmask sample`` prints, once it is there.
        stopped: whether it is no longer wanted.
    """

    start: list[int] = field(default_factory=list)
    reveals: list[Reveal] = field(default_factory=list)
    steps: int = 0
    text: str | None = None
    stopped: bool = False

    def stop(self) -> None:
        """End the drawing at its next step."""
        self.stopped = True

    def at(self, step: int) -> tuple[list[int], dict[int, Reveal]]:
        """The tokens after a step, and those that have come until then, by their positions."""
        tokens, came = list(self.start), dict[int, Reveal]()
        for reveal in self.reveals:
            if reveal.step <= step:
                tokens[reveal.position] = reveal.token
                came[reveal.position] = reveal
        return tokens, came

    def finish_step(self, before: list[int], reveals: list[Reveal]) -> None:
        """Note what came in a step."""
        if self.stopped:
            raise Stopped
        self.start = self.start or before
        self.reveals += reveals
        self.steps += 1


def trace(run: Run, request: Request, into: Trace) -> None:
    """Draw a text and note how it came.

    Args:
        run: an opened run.
        request: as `unmask.play.request.read_request` reads it for this run.
        into: a new one, which is filled while the text is drawn.

    Raises:
        UserError: the run cannot answer the request.
        Stopped: ``into`` was stopped.
    """
    asked, text = request.for_run(run), request.text
    recorder = _Recorder(run.tokenizer.mask_id, into, count_idle=not run.model.causal)
    options, seed = asked.options, asked.seed
    watched: dict[str, Callable[..., None]] = {
        "on_step": recorder.step,
        "on_predict": recorder.predicted,
    }
    if request.has_gaps:
        (drawn,) = infill(run, text, num=1, options=options, seed=seed, **watched)
    elif text:
        (after,) = complete(
            run, [text], new_tokens=asked.length, options=options, seed=seed, **watched
        )
        drawn = continued(run, text, after)
    else:
        (drawn,) = sample(run, num=1, length=asked.length, options=options, seed=seed, **watched)
    into.text = drawn


class _Recorder:
    """Sees the predictions and steps of one text and writes them into its trace.

    Only what is revealed is looked at: the logits themselves are dropped after each step.

    Args:
        mask_id: the mask token.
        into: what is written.
        count_idle: whether steps without a prediction count (of a causal run they are the prompt).
    """

    def __init__(self, mask_id: int, into: Trace, *, count_idle: bool) -> None:
        self._mask_id = mask_id
        self._into = into
        self._count_idle = count_idle
        self._predictions: list[tuple[list[int], Tensor]] = []
        self._before: Tensor | None = None

    def predicted(self, where: Tensor, logits: Tensor) -> None:
        self._predictions.append((where[0].nonzero().flatten().tolist(), logits))

    def step(self, x: Tensor) -> None:
        now = x[0].cpu()
        place = {
            position: (logits, row)
            for positions, logits in self._predictions
            for row, position in enumerate(positions)
        }
        if self._before is None:
            # What was asked for was masked, and nothing else has changed.
            self._before = now.clone()
            self._before[list(place)] = self._mask_id
        if place or self._count_idle:
            number = self._into.steps + 1
            changed = (now != self._before).nonzero().flatten().tolist()
            reveals = [_reveal(number, i, int(now[i]), place.get(i)) for i in changed]
            self._into.finish_step(self._before.tolist(), reveals)
        self._before, self._predictions = now.clone(), []


def _reveal(step: int, position: int, token: int, found: tuple[Tensor, int] | None) -> Reveal:
    if found is None:
        return Reveal(step, position, token, None, ())
    logits, row = found
    p = logits[row].to(finest(logits.device)).softmax(dim=0).cpu()
    top = torch.topk(p, min(TOP, len(p)))
    likeliest = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    alternatives = tuple(Alternative(i, value) for i, value in likeliest if value > 0)
    return Reveal(step, position, token, float(p[token]), alternatives)
