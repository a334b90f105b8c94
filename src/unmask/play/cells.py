"""Tokens as the pieces of text that they stand for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from unmask.data.tokenizers import SEPARATOR_SHOWN, Tokenizer, text_after
from unmask.play.trace import Reveal

_BROKEN = "\ufffd"
_LONGEST = 4  # bytes, so at most tokens, of a character
_CONTEXT = 4  # cells before a cell that it is decoded after
_SIGNS = str.maketrans({" ": "␣", "\n": "↵", "\t": "⇥"})


@dataclass(frozen=True)
class Cell:
    """The smallest piece of a text that has tokens of its own: one, or those of one character.

    Attributes:
        text: as it stands in the whole text.
        hidden: whether it is a mask.
        came: how each of its tokens came; nothing of a prompt's.
    """

    text: str
    hidden: bool
    came: tuple[Reveal, ...]

    @property
    def step(self) -> int:
        """At which step it was whole."""
        return max(reveal.step for reveal in self.came)

    @property
    def certainty(self) -> float | None:
        """The least of its tokens'."""
        known = [reveal.certainty for reveal in self.came if reveal.certainty is not None]
        return min(known, default=None)


def cells(tokenizer: Tokenizer, ids: Sequence[int], came: Mapping[int, Reveal]) -> Iterator[Cell]:
    """Cut a text, parts of which may still be masked, into cells.

    Args:
        tokenizer: the run's.
        ids: all tokens.
        came: how those that were drawn came, by their positions.
    """
    starts, i = [0], 0
    while i < len(ids):
        if ids[i] == tokenizer.mask_id:
            end, text = i + 1, tokenizer.decode([ids[i]])
        else:
            end, text = _cell(tokenizer, ids, starts[-_CONTEXT:][0], i)
        yield Cell(
            text,
            ids[i] == tokenizer.mask_id,
            tuple(came[j] for j in range(i, end) if j in came and ids[i] != tokenizer.mask_id),
        )
        starts.append(end)
        i = end


def _cell(tokenizer: Tokenizer, ids: Sequence[int], first: int, i: int) -> tuple[int, str]:
    """Where the cell that begins at i ends, and its text, decoded after the tokens from first on.

    Tokens that are no whole character belong together until they are one; what never is one is a
    cell by itself.
    """
    before = list(ids[first:i])
    for end in range(i + 1, min(i + _LONGEST, len(ids)) + 1):
        if ids[end - 1] in (tokenizer.mask_id, tokenizer.separator_id) and end > i + 1:
            break
        text = text_after(tokenizer, before, list(ids[i:end]))
        if text and _BROKEN not in text:
            return end, text
    return i + 1, tokenizer.decode([ids[i]])


def token_name(tokenizer: Tokenizer, token: int) -> str:
    """A single token as it is listed: spaces and line ends as signs, parts of characters by id."""
    if token == tokenizer.separator_id:
        return SEPARATOR_SHOWN.strip()
    text = text_after(tokenizer, [tokenizer.mask_id], [token])
    return f"token {token}" if not text or _BROKEN in text else text.translate(_SIGNS)
