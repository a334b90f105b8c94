"""The floating-point operations of training: of matrix products, attention and convolutions.

A multiplication and an addition are two. Attention counts all pairs of positions, causal or not.
"""

import torch
from torch import Tensor

from unmask.model.config import ModelConfig

_FORWARD_AND_BACKWARD = 3  # a product has one forward and two, as costly, backward
_ATTENTION_BACKWARD = 2.5  # five products of the size of the forward pass's two


def training_flops(
    config: ModelConfig,
    vocab_size: int,
    length: int,
    rates: Tensor,
    *,
    causal: bool,
    start: bool,
    recompute: bool = False,
    asked: bool = False,
    conditioned: float = 0.0,
) -> float:
    """FLOPs of the forward and the backward pass over some sequences.

    Exact where all positions pass all blocks. With ``config.late`` it is what independent masks
    cost on average, and without what attention spreads over nothing.

    Args:
        vocab_size: V.
        length: L, tokens of a sequence.
        rates: (n,) share of predicted tokens in each of n sequences; the causal network's is 1.
        causal: whether the autoregressive pass is run.
        start: whether a start symbol stands before the tokens.
        recompute: whether the blocks are computed again in the backward pass.
        asked: whether a forward pass is made before, for the confidences at the masked positions.
        conditioned: share of the sequences that a network with self-conditioning makes its first
            pass over.
    """
    t, width, layers = rates.double(), config.width, len(config.passes)
    predicted = t * length
    head = 3 * 2 * predicted * width * vocab_size
    if config.late and not causal:
        late = min(config.late, layers)
        visible = (1 - t) * length + 1
        masked = t**2 * length  # where the masked token after a masked one is predicted
        blocks = (
            (layers - late) * _block(config, visible, visible)
            + (late - 1) * _block(config, visible + masked, visible + masked)
            + _block(config, visible + masked, predicted)
        )
        advanced = (layers - late) * visible + (late - 1) * (visible + masked) + predicted
    else:
        positions = torch.full_like(t, length + int(start and not causal))
        blocks = layers * _block(config, positions, positions)
        if reach := config.convolution:  # two a block, and one at the embedding
            places = reach + 1 if causal else 2 * reach + 1
            blocks[0] += (2 * layers + 1) * 2 * places * width * positions
        advanced = layers * positions
    passes = blocks[0] * _FORWARD_AND_BACKWARD + blocks[1] * (1 + _ATTENTION_BACKWARD)
    again = torch.zeros_like(t)
    if recompute:  # all but the last product of a block, which nothing in its backward pass needs
        last = 2 * width * config.mlp_width
        again = blocks.sum(dim=0) - last * advanced
    before = torch.zeros_like(t)
    if config.self_conditioning:
        before = (conditioned + asked) * blocks.sum(dim=0)
    if asked:
        before = before + blocks.sum(dim=0) + head / 3
    return float((head + passes + again + before).sum())


def _block(config: ModelConfig, keys: Tensor, queries: Tensor) -> Tensor:
    """(2, n), of a forward pass: matrix products, and attention."""
    width = config.width
    feed_forward = sum(rows * columns for rows, columns in config.matrix_shapes) - 4 * width**2
    products = 2 * (2 * width**2 * keys + (2 * width**2 + feed_forward) * queries)
    return torch.stack((products, 4 * width * keys * queries))


def pretrained_flops(
    weights: int,
    layers: int,
    width: int,
    vocab_size: int,
    length: int,
    rates: Tensor,
    *,
    recompute: bool,
    asked: bool,
) -> float:
    """FLOPs of training some network on some sequences, about: every weight serves every position.

    Args:
        weights: those of all blocks.
        width: D.
        vocab_size, length, rates, recompute, asked: as of `training_flops`.
    """
    products = 2 * weights * length
    attention = layers * 4 * width * length**2
    head = 2 * rates.double() * length * width * vocab_size
    passes = products * _FORWARD_AND_BACKWARD + attention * (1 + _ATTENTION_BACKWARD)
    passes += (products + attention) * recompute
    total = passes * len(rates) + _FORWARD_AND_BACKWARD * head.sum()
    if asked:
        total = total + (products + attention) * len(rates) + head.sum()
    return float(total)
