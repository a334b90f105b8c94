"""What is trained: all that a training step needs to know of a network."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from unmask.model.head import Head
from unmask.model.late import Bounds


class Network(nn.Module, ABC):
    """A network of hidden states, and a head that turns them into logits of the tokens.

    Attributes:
        causal: whether it attends causally where nothing else is said.
        start: a token that is put before the inputs, position i - 1 of which then predicts token
            i; None: position i predicts token i.
        separator: stands between documents, and attention stays within them; None: it goes over
            whole blocks.
        head: the projection onto the vocabulary.
        recompute: whether the backward pass computes each block again.
        opening: the part of a training's steps over which attention opens to both sides.
        self_conditioning: whether a pass may be given the states of one before it.
    """

    causal: bool
    start: int | None
    separator: int | None = None
    head: Head
    recompute: bool
    self_conditioning: bool = False
    opening: float = 0.0

    @abstractmethod
    def forward(
        self,
        x: Tensor,
        valid: Tensor | None = None,
        causal: bool | None = None,
        *,
        predicted: Tensor | None = None,
        bounds: Bounds | None = None,
        conditioned: bool = True,
        reach: Tensor | None = None,
    ) -> Tensor:
        """Compute the hidden states (B, L, D) of tokens x (B, L); see `Transformer`."""

    @property
    @abstractmethod
    def layers(self) -> list[nn.Module]:
        """Its blocks, in order."""

    @abstractmethod
    def training_flops(
        self,
        length: int,
        rates: Tensor,
        *,
        causal: bool,
        asked: bool,
        recompute: bool = False,
        conditioned: float = 0.0,
    ) -> float:
        """FLOPs of the forward and the backward pass over sequences; see `training_flops`."""

    def matrix_parameters(self) -> list[nn.Parameter]:
        """The trained matrices of the blocks: what Muon trains, not embedding, head and norms."""
        inside: list[nn.Parameter] = [p for block in self.layers for p in block.parameters()]
        return [p for p in inside if p.ndim == 2 and p.requires_grad]

    def embeddings(self) -> list[Tensor]:
        """The weights (V, D) of the tables that the network reads tokens with."""
        vocabulary = self.head.weight.shape[0]
        return [
            module.weight
            for module in self.modules()
            if isinstance(module, nn.Embedding) and module.num_embeddings == vocabulary
        ]

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """As `forward`."""
        result: Tensor = super().__call__(*args, **kwargs)
        return result


def parameter_count(model: Network) -> tuple[int, int]:
    """Count the parameters: all of them, and those outside the embedding and the head."""
    total = sum(p.numel() for p in model.parameters())
    outside = {id(p): p for p in (model.head.weight, *model.embeddings())}
    return total, total - sum(p.numel() for p in outside.values())
