"""The validation bound, on the same blocks and masks for every recipe and at every step."""

import torch
from torch import Tensor

from unmask.data import Blocks
from unmask.diffusion.bound import Bound, exact_nll, nelbo_from_draws
from unmask.diffusion.masking import Corrupted, exact_count, next_token
from unmask.diffusion.noise import Stream, uniform, uniform_double
from unmask.diffusion.objective import predicted_cross_entropy
from unmask.diffusion.time import stratify
from unmask.evaluate.config import ValidationConfig
from unmask.model import Transformer


@torch.no_grad()
def validate(model: Transformer, blocks: Blocks, config: ValidationConfig, mask_id: int) -> Bound:
    """Measure the NELBO of a denoiser, or the exact likelihood of a causal model.

    Each of the chosen blocks gets ``config.draws`` masks of exactly k tokens, k stratified over
    1..L among themselves (see `unmask.diffusion.bound`); the standard error is over blocks. The
    result does not depend on ``config.batch_size`` beyond rounding.

    Returns:
        Nats per token with standard error and, for a denoiser, the curve c(t).
    """
    chosen = evenly_spaced(len(blocks), config.blocks)
    x, valid = blocks.batch(chosen)
    lengths = torch.full((len(x),), x.shape[1]) if valid is None else valid.sum(dim=1)
    if model.causal:
        ce = _sums(model, chosen, lengths[:, None], blocks, config, mask_id)
        return exact_nll(ce.squeeze(1), lengths)
    k = _mask_sizes(lengths, config)
    ce = _sums(model, chosen, k, blocks, config, mask_id)
    return nelbo_from_draws(ce, k, k / lengths[:, None], lengths)


def evenly_spaced(total: int, wanted: int) -> Tensor:
    """At most ``wanted`` block indices spread over all ``total``: (n,) int64, increasing."""
    n = min(total, wanted)
    return torch.arange(n) * total // n


def _mask_sizes(lengths: Tensor, config: ValidationConfig) -> Tensor:
    """(n, draws) int64 mask sizes; row i is stratified over 1..lengths[i]."""
    n, m = len(lengths), config.draws
    offsets = uniform_double(config.seed, Stream.EVAL_SIZE, 0, torch.arange(n), m)
    u = stratify(torch.arange(m), offsets, m)
    return (u * lengths[:, None]).long().clamp(max=lengths[:, None] - 1) + 1


def _sums(
    model: Transformer,
    chosen: Tensor,
    k: Tensor,
    blocks: Blocks,
    config: ValidationConfig,
    mask_id: int,
) -> Tensor:
    """Summed cross-entropy (nats) of the predicted tokens of each (block, draw): (n, m) float32.

    Args:
        k: (n, m) int64, how many tokens are masked; a causal model predicts all.
    """
    device = model.embedding.weight.device
    sums = torch.zeros(k.shape)
    for draw in range(k.shape[1]):
        for rows in torch.arange(len(chosen)).split(config.batch_size):
            x, valid = blocks.batch(chosen[rows])
            x = x.to(device)
            valid = None if valid is None else valid.to(device)
            u = uniform(config.seed, Stream.EVAL_MASK, draw, rows.to(device), x.shape[1])
            if model.causal:
                corrupted = next_token(x, u[:, 0], u, valid, mask_id)
            else:
                mask = exact_count(k[rows, draw].to(device), u, valid)
                corrupted = Corrupted(x.masked_fill(mask, mask_id), mask)
            sums[rows, draw] = _batch_sums(model, x, corrupted, valid).cpu()
    return sums


def _batch_sums(
    model: Transformer, x: Tensor, corrupted: Corrupted, valid: Tensor | None
) -> Tensor:
    """(B,) summed cross-entropy of the predicted tokens, in nats."""
    hidden = model(corrupted.inputs, valid)
    ce, rows = predicted_cross_entropy(hidden, x, corrupted.predicted, model.head)
    return torch.zeros(len(x), device=x.device).index_add(0, rows, ce)
