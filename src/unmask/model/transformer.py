"""The denoiser: which token stands at a masked position, given all the others.

There is no time embedding: how many tokens are masked can be read off the input.
The causal twin, the autoregressive baseline, is the same network with the same weights
in which a position sees only itself and earlier ones.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unmask.model.config import ModelConfig
from unmask.model.documents import within_documents
from unmask.model.flops import training_flops
from unmask.model.head import Head
from unmask.model.late import Bounds, put, run_late
from unmask.model.layers import Block, Convolution, Rotary
from unmask.model.network import Network
from unmask.model.norm import RMSNorm

EMBEDDING_STD = 0.02


class Transformer(Network):
    """Pre-norm transformer with rotary positions, QK-norm, SwiGLU and an untied head.

    Training calls the model for hidden states and its ``head`` on the masked positions alone,
    so that (B, L, V) logits never exist.

    Args:
        config: the network's shape.
        vocab_size: V, with the mask token and all other special tokens.
        never_predicted: ids whose logit is -inf (the mask token, padding ...).
        mask_id: the mask token; a network with ``config.late`` has to know it.
        causal: whether a position sees only itself and earlier ones; needs ``start``.
        start: a token put before the inputs, position i - 1 of which then predicts token i: what
            an autoregressive network needs, and the one form of input that serves a network which
            is trained causal and bidirectional. None: position i predicts token i.
        separator: stands between documents, and attention stays within them; it is never predicted
            and must never be masked. None: attention goes over whole blocks.
        seed: of the initial weights, which depend on nothing else; None: they stay unset, for
            whoever loads them.

    Raises:
        ValueError: an autoregressive network, or one with ``config.late``, without a start
            symbol; the latter without the mask token, or with a separator.

    Attributes:
        recompute: whether the backward pass computes each block again in place of keeping what its
            forward pass made: the same numbers, far less memory, another forward pass.
    """

    def __init__(
        self,
        config: ModelConfig,
        vocab_size: int,
        never_predicted: Sequence[int] = (),
        *,
        mask_id: int | None = None,
        causal: bool = False,
        start: int | None = None,
        separator: int | None = None,
        seed: int | None = 0,
    ) -> None:
        super().__init__()
        if causal and start is None:  # it would see the token that it is asked for
            raise ValueError("an autoregressive network needs a start symbol")
        if config.late and (start is None or mask_id is None):
            raise ValueError("model.late needs a start symbol and the mask token's id")
        if config.late and separator is not None:
            raise ValueError("model.late does not keep attention within documents")
        self.config, self.causal, self.start, self.mask_id = config, causal, start, mask_id
        self.separator = separator
        self.recompute = False
        self.self_conditioning = config.self_conditioning
        self.embedding = nn.Embedding(vocab_size, config.width, device="meta").to_empty(
            device="cpu"
        )
        self.rotary = Rotary(config.head_dim, config.rope_theta)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width)
        unpredicted = [] if separator is None else [separator]
        self.head = Head(config.width, vocab_size, [*never_predicted, *unpredicted])
        self.convolution: Convolution | None = None
        if config.convolution:
            self.convolution = Convolution(config.width, config.convolution)
        self.value_embedding: nn.Embedding | None = None
        if config.value_embedding:
            self.value_embedding = nn.Embedding(vocab_size, config.width, device="meta").to_empty(
                device="cpu"
            )
        self.state_norm = RMSNorm(config.width) if config.self_conditioning else None
        if seed is not None:
            self._draw_weights(seed)

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
        """Compute the hidden states that `head` turns into logits of the tokens at their places.

        Args:
            x: (B, L) int64 token ids.
            valid: (B, L) bool, False at padding, whose content then changes no valid position.
                The causal network needs no mask for that and ignores it: its padding must stand
                at the right end, which no valid position sees.
            causal: whether to attend causally; None: as the network was made.
            predicted: (B, L) bool, masked positions whose states are asked for; None: all. A
                network whose masked positions come in late computes no other; every other network
                computes all states.
            bounds: of a batch for a network whose masked positions come in late: with them every
                shape is constant, and nothing waits for the device to count.
            conditioned: whether a network with self-conditioning makes its first pass; see
                `pass_blocks`.
            reach: not for networks of unmask, which attend both ways from the start.

        Returns:
            (B, L, D) after the final norm; finite at padding and at states that were not asked
            for, but meaningless there.
        """
        causal = self.causal if causal is None else causal
        if self.config.late and not causal:
            return self._late(x, valid, predicted, bounds)
        length = x.shape[1]
        if self.start is not None:
            x = F.pad(x, (1, 0), value=self.start)
            if causal:  # the last token tells nothing to any that is predicted
                x = x[:, :-1]
            elif valid is not None:
                valid = F.pad(valid, (1, 0), value=True)
        hidden = self.pass_blocks(x, None if causal else valid, causal, conditioned)
        return self.norm(hidden[:, :length])  # type: ignore[no-any-return]

    def pass_blocks(
        self, x: Tensor, valid: Tensor | None, causal: bool, conditioned: bool = True
    ) -> Tensor:
        """The residual stream (B, L, D) of tokens x (B, L) after all blocks, before the norm.

        Nothing is put before the tokens here: a start symbol stands among them.

        With self-conditioning (Jo et al. 2025, arXiv 2510.19304) it is that of a second pass, to
        whose embeddings the normalised streams of a first one are added, each at its own position.
        The first has no gradient. Both read the same tokens: what is predicted is a function of
        what is visible, and in a causal pass of what stands before.

        Args:
            conditioned: whether there is a first pass; if not, zeros stand in for its streams.
        """
        mask = None if valid is None else valid[:, None, None, :]
        if self.separator is not None:
            mask = within_documents(x, self.separator, valid, causal)
        angles = self.rotary(x.shape[1])
        embedded: Tensor = self.embedding(x)
        values = None if self.value_embedding is None else self.value_embedding(x)

        def stream(hidden: Tensor) -> Tensor:
            if self.convolution is not None:
                hidden = self.convolution(hidden, mask, causal)
            for i in self.config.passes:
                hidden = self._run(self.blocks[i], hidden, angles, mask, causal, values)
            return hidden

        if self.state_norm is None:
            return stream(embedded)
        states = torch.zeros_like(embedded)
        if conditioned:
            with torch.no_grad():
                states = stream(embedded)
        # Zeros too pass the norm, which so has a gradient in every step, as DDP asks.
        return stream(embedded + self.state_norm(states))

    def _late(
        self, x: Tensor, valid: Tensor | None, predicted: Tensor | None, bounds: Bounds | None
    ) -> Tensor:
        """The bidirectional pass of a network whose masked positions come in late."""
        assert self.start is not None and self.mask_id is not None  # as `__init__` makes sure
        masked = x == self.mask_id
        if valid is not None:
            masked = masked & valid
            valid = F.pad(valid, (1, 0), value=True)
        # A token is predicted at the position before it.
        predicting = F.pad(masked, (0, 1), value=False)
        read = predicting if predicted is None else F.pad(predicted, (0, 1), value=False)
        # The start symbol is visible in every row, so that there always is one to look at.
        x = F.pad(x, (1, 0), value=self.start)
        visible = ~F.pad(masked, (1, 0), value=False)
        visible = visible if valid is None else visible & valid
        if bounds is not None:
            bounds = Bounds(bounds.predicted, bounds.visible + len(x), bounds.in_row + 1)
        blocks: list[Block] = [self.blocks[i] for i in self.config.passes]  # type: ignore[misc]
        states, at = run_late(
            blocks[: -self.config.late],
            blocks[-self.config.late :],
            self.embedding(x),
            visible=visible,
            late=visible | predicting,
            read=read,
            angles=self.rotary(x.shape[1]),
            bounds=bounds,
            run=self._run,
        )
        hidden = put(self.norm(states), at.where, read.numel(), at.full)
        return hidden.view(*read.shape, -1)[:, :-1]

    def _run(self, block: Callable[..., Tensor], *inputs: Any) -> Tensor:
        """Run a block, or `recompute` it."""
        if self.recompute and torch.is_grad_enabled():
            result: Tensor = checkpoint(
                block, *inputs, use_reentrant=False, preserve_rng_state=False
            )
            return result
        return block(*inputs)

    @property
    def layers(self) -> list[nn.Module]:
        """Its blocks, in order."""
        return list(self.blocks)

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
        return training_flops(
            self.config,
            self.head.weight.shape[0],
            length,
            rates,
            causal=causal,
            start=self.start is not None,
            recompute=recompute,
            asked=asked,
            conditioned=conditioned,
        )

    @torch.no_grad()
    def _draw_weights(self, seed: int) -> None:
        """Set every weight from its own generator: torch's global random state stays untouched."""
        generator = torch.Generator().manual_seed(seed)
        # Each block adds to the residual stream twice; this keeps the sum's variance independent
        # of the depth.
        residual = 1 / math.sqrt(2 * len(self.config.passes))
        for name, weight in self.named_parameters():
            if weight.ndim == 1:
                # An untrained network does not look at its states.
                weight.fill_(0.0 if name == "state_norm.weight" else 1.0)
                continue
            if name == "head.weight" or weight.ndim == 3:
                # An untrained network is exactly undecided, and its convolutions do nothing.
                weight.zero_()
                continue
            embeds = name in ("embedding.weight", "value_embedding.weight")
            std = EMBEDDING_STD if embeds else 1 / math.sqrt(weight.shape[1])
            if name.endswith(("attention.o.weight", "mlp.down.weight")):
                std *= 0 if self.config.zero_outputs else residual
            weight.copy_(std * torch.randn(weight.shape, generator=generator))
