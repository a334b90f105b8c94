"""What can be scored: all that an evaluation needs to know of a network."""

from typing import Protocol

from torch import Tensor

from unmask.diffusion.linear_cross_entropy import Projection


class Denoiser(Protocol):
    """`unmask.model.Transformer`, or a masked language model of `transformers` in a wrapper."""

    @property
    def causal(self) -> bool:
        """Whether the hidden state at a place is made of earlier tokens: exact likelihood."""

    @property
    def head(self) -> Projection:
        """Hidden states to logits; on the device of its weight the network runs."""

    def __call__(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Tokens (B, L) int64, and which are no padding, (B, L) bool -> hidden states (B, L, D).

        Padding stands at the right end of a row.
        """
