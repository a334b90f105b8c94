"""The projection of hidden states onto the vocabulary."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Head(nn.Module):
    """Projection of hidden states onto the vocabulary, -inf where nothing may be predicted."""

    bias: Tensor

    def __init__(self, width: int, vocab_size: int, never_predicted: Sequence[int]) -> None:
        super().__init__()
        bad = [i for i in never_predicted if not 0 <= i < vocab_size]
        if bad:
            raise ValueError(f"never_predicted must be ids below vocab_size {vocab_size}: {bad}")
        if len(set(never_predicted)) >= vocab_size:
            raise ValueError("never_predicted leaves no token to predict")
        self.weight = nn.Parameter(torch.empty(vocab_size, width))
        self.register_buffer("bias", torch.empty(vocab_size), persistent=False)
        self.exclude(never_predicted)

    def exclude(self, never_predicted: Sequence[int]) -> None:
        """Set the bias: -inf at those ids, 0 at all others."""
        # As the bias of the one matrix product, the exclusion costs nothing.
        self.bias.zero_()
        self.bias[list(never_predicted)] = -torch.inf

    def forward(self, hidden: Tensor) -> Tensor:
        """Return logits (..., V) of hidden states (..., D)."""
        return nn.functional.linear(hidden, self.weight, self.bias)
