"""The parts of a block: rotary positions, convolution over neighbours, attention, feed-forward.

All matrices are separate 2-D parameters without bias, so that an optimiser which treats a matrix
as a whole (Muon) sees each of them on its own.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmask.model.config import ModelConfig
from unmask.model.norm import RMSNorm


def linear(inputs: int, outputs: int) -> nn.Linear:
    """Make a bias-free linear map with its weights unset: `Transformer` draws them all itself."""
    # By way of the meta device, on which torch's own initialisation draws nothing.
    return nn.Linear(inputs, outputs, bias=False, device="meta").to_empty(device="cpu")


class Rotary(nn.Module):
    """Rotary position embedding in the half-rotation convention of Llama and Qwen.

    Channel i and channel i + d/2 of a head are one pair, turned by position * theta^(-2i/d).
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, head_dim: int, theta: float, cached: int = 2048) -> None:
        super().__init__()
        self.head_dim, self.theta = head_dim, theta
        for name in ("cos", "sin"):  # float32 whatever the default is
            table = torch.empty(cached, 1, head_dim, dtype=torch.float32)
            self.register_buffer(name, table, persistent=False)
        self.tabulate()

    def tabulate(self) -> None:
        """Fill the tables, which no checkpoint holds."""
        # Computed on the CPU, so that every device has the same numbers.
        cos, sin = self._tables(len(self.cos), torch.device("cpu"))
        self.cos.copy_(cos)
        self.sin.copy_(sin)

    def forward(self, length: int) -> tuple[Tensor, Tensor]:
        """Return cos and sin, each (L, 1, head_dim), for positions 0 to L - 1."""
        if length <= self.cos.shape[0]:
            return self.cos[:length], self.sin[:length]
        # Computed anew rather than kept: a buffer that grows would break compiled graphs.
        return self._tables(length, self.cos.device)

    def _tables(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        # float32 even where a loader of weights has made another the default
        place = torch.arange(length, device=device, dtype=torch.float32)
        channel = torch.arange(0, self.head_dim, 2, device=device, dtype=torch.float32)
        angles = place[:, None] / self.theta ** (channel / self.head_dim)
        cos, sin = angles.cos(), angles.sin()
        # The first half of a head receives -sin of the second, the second +sin of the first.
        return torch.cat((cos, cos), -1)[:, None], torch.cat((-sin, sin), -1)[:, None]


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the heads x (..., L, H, d) by the angles of their positions, cos and sin (L, 1, d)."""
    first, second = x.chunk(2, dim=-1)
    return torch.addcmul(x * cos, torch.cat((second, first), dim=-1), sin)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """Scaled dot-product attention of heads (B, L, H, d), in the precision that is fastest.

    A mask says all, also where attention is causal.

    Under autocast that is bfloat16 on a GPU. On a CPU it is float32: the backward pass of torch's
    bfloat16 kernel takes over three times as long (docs/experiments/2026-11-25-performance.md).
    """
    slow = value.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    slow = slow and value.dtype == torch.bfloat16
    dtype = torch.float32 if slow else value.dtype
    with torch.autocast("cpu", enabled=False) if slow else nullcontext():
        mixed = F.scaled_dot_product_attention(
            query.to(dtype).transpose(1, 2),
            key.to(dtype).transpose(1, 2),
            value.to(dtype).transpose(1, 2),
            attn_mask=mask,
            is_causal=causal and mask is None,
        )
    return mixed.transpose(1, 2)


class Convolution(nn.Module):
    """Adds to each channel a weighted sum of the same channel at the places around.

    Its weights, (D, 1, 2 * reach + 1), start at zero: it then changes nothing.

    Args:
        width: D.
        reach: places to either side.
    """

    def __init__(self, width: int, reach: int) -> None:
        super().__init__()
        # Three dimensions, as of torch's convolutions: no matrix that an optimiser would treat as
        # a whole.
        self.weight = nn.Parameter(torch.empty(width, 1, 2 * reach + 1))
        self.reach = reach

    def forward(self, x: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        """Of x (B, L, D).

        Args:
            mask: as in `Attention`: a place is added only where it may be looked at.
            causal: whether only places before one and itself are added to it.
        """
        if mask is not None and mask.shape[2] > 1:
            return x + self._where_seen(x, mask[:, 0], causal)
        around = x if mask is None else x * mask[:, 0, 0, :, None]
        weight = self.weight[..., : self.reach + 1] if causal else self.weight
        # As an image one pixel high: the layout that is (B, L, D) in memory, and by far the
        # fastest on a CPU.
        image = around.transpose(1, 2).unsqueeze(2)
        found = F.conv2d(image, weight.unsqueeze(2), padding=(0, self.reach), groups=x.shape[2])
        return x + found.squeeze(2).transpose(1, 2)[:, : x.shape[1]]

    def _where_seen(self, x: Tensor, seen: Tensor, causal: bool) -> Tensor:
        """The weighted sum, of those places alone that seen (B, L, L) lets each look at."""
        found, length = torch.zeros_like(x), x.shape[1]
        for offset in range(-self.reach, (0 if causal else self.reach) + 1):
            left = length - abs(offset)
            if left <= 0:
                continue
            first, from_ = max(0, -offset), max(0, offset)
            there = seen.diagonal(offset, 1, 2)[..., None]
            weight = self.weight[:, 0, self.reach + offset]
            term = x[:, from_ : from_ + left] * there * weight
            found = found + F.pad(term, (0, 0, first, length - left - first))
        return found


class Attention(nn.Module):
    """Multi-head self-attention, queries and keys RMS-normalised per head before rotation."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.q = linear(config.width, config.width)
        self.k = linear(config.width, config.width)
        self.v = linear(config.width, config.width)
        self.o = linear(config.width, config.width)
        self.q_norm = RMSNorm(config.head_dim)
        self.k_norm = RMSNorm(config.head_dim)
        self.value_scale = nn.Parameter(torch.empty(1)) if config.value_embedding else None

    def forward(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor],
        mask: Tensor | None,
        causal: bool,
        values: Tensor | None = None,
    ) -> Tensor:
        """Mix positions.

        Args:
            x: (B, L, D).
            angles: of the positions.
            mask: (B, 1, 1, L), True at keys to attend to, or (B, 1, L, L), of each query its own;
                None: at all.
            causal: whether a position sees only itself and those before.
            values: (B, L, D), added to the values in a share of their own; None: nothing.
        """
        key, value = self.keys(x, angles)
        if values is not None and self.value_scale is not None:
            value = value + (self.value_scale * values).unflatten(-1, (self.heads, -1)).to(
                value.dtype
            )
        mixed = attend(self.queries(x, angles), key, value, mask, causal)
        return self.o(mixed.flatten(2))  # type: ignore[no-any-return]

    def queries(self, x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
        """The queries (..., L, H, d) of positions x (..., L, D)."""
        by_head = self.q(x).unflatten(-1, (self.heads, -1))
        return rotate(self.q_norm(by_head), *angles)

    def keys(self, x: Tensor, angles: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The keys and the values, each (..., L, H, d), of positions x (..., L, D)."""
        by_head = (self.heads, -1)
        value = self.v(x).unflatten(-1, by_head)
        return rotate(self.k_norm(self.k(x).unflatten(-1, by_head)), *angles), value


class SwiGLU(nn.Module):
    """Gated feed-forward network: down(silu(gate x) * up x)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = linear(config.width, config.mlp_width)
        self.up = linear(config.width, config.mlp_width)
        self.down = linear(config.mlp_width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """Map each position of x (B, L, D) on its own."""
        return self.down(F.silu(self.gate(x)) * self.up(x))  # type: ignore[no-any-return]


class SquaredReLU(nn.Module):
    """Feed-forward network without a gate: down(relu(up x)^2)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up = linear(config.width, config.mlp_width)
        self.down = linear(config.mlp_width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """Map each position of x (B, L, D) on its own."""
        return self.down(F.relu(self.up(x)).square())  # type: ignore[no-any-return]


class Block(nn.Module):
    """One pre-norm block: attention, then the feed-forward network, each added to the stream."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.width)
        self.attention = Attention(config)
        self.mlp_norm = RMSNorm(config.width)
        self.mlp = SwiGLU(config) if config.activation == "swiglu" else SquaredReLU(config)
        self.attention_convolution: Convolution | None = None
        self.mlp_convolution: Convolution | None = None
        if config.convolution:
            self.attention_convolution = Convolution(config.width, config.convolution)
            self.mlp_convolution = Convolution(config.width, config.convolution)

    def forward(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor],
        mask: Tensor | None,
        causal: bool,
        values: Tensor | None = None,
    ) -> Tensor:
        """Advance the residual stream x (B, L, D); the rest as in `Attention`."""
        normed = self.attention_norm(x)
        if self.attention_convolution is not None:
            normed = self.attention_convolution(normed, mask, causal)
        x = x + self.attention(normed, angles, mask, causal, values)
        normed = self.mlp_norm(x)
        if self.mlp_convolution is not None:
            normed = self.mlp_convolution(normed, mask, causal)
        return x + self.mlp(normed)  # type: ignore[no-any-return]

    def lend(self, function: Callable[..., Tensor], *inputs: Any) -> Tensor:
        """Run a function of this block and other inputs.

        Like `forward`, a pass through the block: where its weights are divided between processes,
        they are gathered for both.
        """
        return function(self, *inputs)
