"""From logits to a token: temperature, top-k, top-p, and a draw that loses no rare token."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.base.errors import UserError
from unmask.diffusion.precision import finest

_ONE = 2.0**60  # a probability of 1 as an integer


@dataclass(frozen=True)
class Decoding:
    """How a token is drawn from the model's distribution.

    Attributes:
        temperature: the distribution's power is 1 / temperature; 0: always the likeliest token.
        top_k: only the k likeliest tokens, after the temperature; 0: all.
        top_p: of these only the likeliest that together hold p of the probability (Holtzman et al.
            2020, arXiv 1904.09751); at least one. In (0, 1].

    Raises:
        UserError: a value out of its range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise UserError(f"temperature must be 0 or more, and finite, not {self.temperature:g}")
        if self.top_k < 0:
            raise UserError(f"top_k must be 0 (all tokens) or more, not {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p must be in (0, 1], not {self.top_p:g}")

    def log_probabilities(self, logits: Tensor) -> Tensor:
        """Logarithms of the probabilities that tokens are drawn with.

        Args:
            logits: (M, V); -inf for tokens that must not be drawn.

        Returns:
            (M, V), normalised, in the finest dtype of the device; -inf where nothing is drawn.
        """
        logits = logits.to(finest(logits.device))
        if self.temperature == 0:
            likeliest = torch.zeros_like(logits, dtype=torch.bool)
            likeliest.scatter_(1, logits.argmax(dim=1, keepdim=True), True)
            return torch.zeros_like(logits).masked_fill(~likeliest, -math.inf)
        logits = logits / self.temperature
        if 0 < self.top_k < logits.shape[1]:
            kept = torch.zeros_like(logits, dtype=torch.bool)
            kept.scatter_(1, logits.topk(self.top_k, dim=1).indices, True)
            logits = logits.masked_fill(~kept, -math.inf)
        if self.top_p < 1:
            ordered, index = logits.sort(dim=1, descending=True, stable=True)
            p = ordered.softmax(dim=1)
            beyond = p.cumsum(dim=1) - p >= self.top_p  # the likelier ones suffice
            logits = logits.masked_fill(beyond.scatter(1, index, beyond), -math.inf)
        return logits.log_softmax(dim=1)

    def draw(self, logits: Tensor, u: Tensor) -> Tensor:
        """Draw tokens (M,) int64 from logits (M, V) with u (M,) float64 in [0, 1) on the CPU."""
        return categorical(self.log_probabilities(logits), u)


def categorical(logits: Tensor, u: Tensor) -> Tensor:
    """Draw from softmax(logits) by inverting its cumulative distribution.

    One uniform per draw, no Gumbel noise: float32 Gumbel draws are truncated and lower the
    temperature unasked (Zheng et al. 2024, arXiv 2409.02908). The probabilities are added as
    multiples of 2^-60 in 64-bit integers, which every device has and which round nothing, so that
    a rare token has its own sliver of u even where they are computed in float32.

    Args:
        logits: (M, V), V below 2^20; -inf for tokens that must not be drawn.
        u: (M,) float64 in [0, 1) on the CPU.

    Returns:
        (M,) int64 on the device of the logits.
    """
    probabilities = torch.softmax(logits.to(finest(logits.device)), dim=-1)
    cumulative = (probabilities * _ONE).long().cumsum(dim=-1)
    total = cumulative[:, -1:].cpu()  # nearly 2^60
    target = torch.minimum((u[:, None] * total).long(), total - 1)
    return torch.searchsorted(cumulative, target.to(logits.device), right=True).squeeze(1)
