"""What is asked for on the page: each of its fields is told what is wrong with it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from unmask.base.errors import UserError, shown
from unmask.base.numbers import check_seed, decimal_number, whole_number
from unmask.run import Run
from unmask.sample import (
    SamplerOptions,
    check_fits,
    check_length,
    encode_prompts,
    gaps,
    has_gaps,
)

FIELDS = (
    "text",
    "length",
    "sampler",
    "steps",
    "temperature",
    "top_p",
    "block_length",
    "seed",
)
"""The page's fields, all of them text."""

_LENGTH = 128

T = TypeVar("T", int, float)


@dataclass(frozen=True)
class Request:
    """A text to be drawn.

    Attributes:
        text: a prompt, a text with gaps as `unmask.sample.gaps` reads it, or nothing.
        length: new tokens after the prompt; of no meaning where the text has gaps.
        options: how tokens are drawn.
        seed: the text is a function of (weights, seed, all of these).
    """

    text: str
    length: int
    options: SamplerOptions
    seed: int

    @property
    def has_gaps(self) -> bool:
        """Whether gaps are filled, and no prompt continued."""
        return has_gaps(self.text)

    def for_run(self, run: Run) -> "Request":
        """Without what a causal run has no use for: it is sampled from left to right."""
        if not run.model.causal:
            return self
        plain = SamplerOptions(temperature=self.options.temperature, top_p=self.options.top_p)
        return replace(self, options=plain)


class Refused(UserError):
    """Fields that cannot be read; ``fields`` has a sentence for each by its name."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__(*fields.values())
        self.fields = dict(fields)


def defaults() -> dict[str, str]:
    """What the fields hold at first: as ``unmask sample`` takes it, where nothing is given."""
    options = SamplerOptions()
    return {
        "text": "",
        "length": "",
        "sampler": options.sampler,
        "steps": str(options.steps),
        "temperature": f"{options.temperature:g}",
        "top_p": f"{options.top_p:g}",
        "block_length": "",
        "seed": "0",
    }


def read_request(fields: Mapping[str, str], runs: Sequence[Run]) -> Request:
    """Read a request that all of some runs can answer.

    Args:
        fields: the text of each of `FIELDS`.
        runs: who is asked.

    Raises:
        Refused: a field is not valid, for one of the runs at least.
    """
    problems = dict[str, str]()

    @contextmanager
    def field(name: str) -> Iterator[None]:
        try:
            yield
        except UserError as error:
            problems.setdefault(name, str(error))

    options = SamplerOptions()
    length, seed = 1, 0
    readers: dict[str, Callable[[str], object]] = {
        "sampler": str,
        "steps": lambda text: _whole("steps", text),
        "temperature": lambda text: _decimal("temperature", text),
        "top_p": lambda text: _decimal("top_p", text),
        "block_length": lambda text: _whole("block_length", text) if text.strip() else None,
    }
    for name, reader in readers.items():
        with field(name):
            options = replace(options, **{name: reader(fields[name])})  # type: ignore[arg-type]
    with field("seed"):
        seed = _whole("seed", fields["seed"])
        if seed < 0:
            raise UserError(f"seed must be 0 or more, not {shown(seed)}")
        check_seed(seed)
    text = fields["text"]
    with field("length"):
        given = fields["length"]
        length = _whole("length", given) if given.strip() else _room(text, runs)
        for run in runs:
            check_length(length, run.config.corpus.block_size)
    request = Request(text, length, options, seed)
    if request.has_gaps or "length" not in problems:
        for run in runs:
            with field("text"):
                _check_text(request, run)
    if problems:
        raise Refused(problems)
    return request


def _room(text: str, runs: Sequence[Run]) -> int:
    """New tokens where no number is given: as many as ``unmask sample`` takes, at least 1."""
    prompt = text.encode(errors="replace").decode()
    room = (run.config.corpus.block_size - len(encode_prompts(run, [prompt])[0]) for run in runs)
    return max(min(_LENGTH, *room), 1)


def _check_text(request: Request, run: Run) -> None:
    """Raise a `UserError` if a run has no room, or is of no kind, for a text."""
    text = request.text
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError("the text holds a part of a character that is none by itself") from None
    if request.has_gaps:
        if run.model.causal:
            raise UserError(
                f"{run.folder} is autoregressive: it continues a prompt, and fills no gaps"
            )
        check_fits(len(gaps(text, run)), run)
    else:
        check_fits(len(encode_prompts(run, [text])[0]) + request.length, run)


def _whole(name: str, text: str) -> int:
    number = whole_number(text.strip())
    if number is None:
        raise UserError(f"{name} must be a whole number, not {shown(text)}")
    return number


def _decimal(name: str, text: str) -> float:
    number = decimal_number(text.strip())
    if number is None:
        raise UserError(f"{name} must be a number such as 0.8, not {shown(text)}")
    return number
