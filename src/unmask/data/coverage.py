"""How much of a text its tokens hold: what a tokenizer drops costs a model nothing to predict.

Bits per byte divide the nats of the tokens by the bytes of the text, so text that has no token, or
an unknown one, makes them look better than they are.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unmask.base.errors import UserError
from unmask.data.tokenizers import Tokenizer

NOTABLE, MEANINGLESS = 0.001, 0.5
"""Shares of a text (lost bytes, unknown tokens) from which on it is told, and is refused."""


@dataclass(frozen=True)
class Coverage:
    """What of a text its tokens do not hold.

    Attributes:
        lost: share of the bytes whose characters have no token at all, in [0, 1]; spaces aside,
            which many tokenizers leave to their decoder.
        unknown: share of the tokens that are the unknown one, in [0, 1].
    """

    lost: float = 0.0
    unknown: float = 0.0

    @property
    def notable(self) -> bool:
        """Whether bits per byte are a lower limit only."""
        return max(self.lost, self.unknown) > NOTABLE

    def bits(self, per_byte: float) -> str:
        """Bits per byte for a reader, with a sign where they are a lower limit."""
        return f"{'≥ ' if self.notable else ''}{per_byte:.4f}"

    def warning(self, text: str) -> str | None:
        """A sentence about ``text`` (what it is called), or None where nothing notable is lost.

        Raises:
            UserError: so much is lost that the tokens say nothing about the text.
        """
        if not self.notable:
            return None
        parts = (
            (self.lost, f"drops {self.lost:.2%} of the bytes"),
            (self.unknown, f"turns text into {self.unknown:.2%} unknown tokens"),
        )
        said = f"{text}: the tokenizer {' and '.join(part for share, part in parts if share)}"
        if max(self.lost, self.unknown) > MEANINGLESS:
            raise UserError(
                f"{said}: too little is left to measure; choose a tokenizer that knows these "
                "characters (bytes and bpe:N know all)"
            )
        return f"{said}; bits per byte are therefore a lower limit"


WHOLE = Coverage()
"""Nothing is lost."""


class CharacterCount:
    """How often each character occurs in a text that comes in parts."""

    def __init__(self) -> None:
        self._counts = np.zeros(0, dtype=np.int64)

    def add(self, texts: Iterable[str]) -> None:
        """Count the characters of some texts."""
        points = np.frombuffer("".join(texts).encode("utf-32-le"), dtype=np.uint32)
        self._take(np.bincount(points))

    def merge(self, other: "CharacterCount") -> None:
        """Take in what another has counted."""
        self._take(other._counts)

    def _take(self, counts: NDArray[np.int64]) -> None:
        shorter, longer = sorted((self._counts, counts), key=len)
        self._counts = longer.copy()
        self._counts[: len(shorter)] += shorter

    def lost_bytes(self, tokenizer: Tokenizer) -> int:
        """UTF-8 bytes of the characters that change nothing: neither alone nor after another."""
        points = [int(i) for i in self._counts.nonzero()[0] if not chr(i).isspace()]
        if not points:
            return 0
        common = chr(max(points, key=lambda point: self._counts[point]))
        try:
            alone = tokenizer.encode([chr(point) for point in points])
            (before,) = tokenizer.encode([common])
            after = tokenizer.encode([common + chr(point) for point in points])
        except UserError:  # a tokenizer that refuses what it does not know loses nothing silently
            return 0
        return sum(
            int(self._counts[point]) * len(chr(point).encode())
            for point, one, two in zip(points, alone, after, strict=True)
            if np.array_equal(two, before) and not count_of(tokenizer.unknown_ids, one)
        )


def count_of(ids: tuple[int, ...], tokens: NDArray[np.int64]) -> int:
    """How many of some tokens are one of ``ids``."""
    return int(np.isin(tokens, ids).sum()) if ids else 0
