"""The validation bound, on the same blocks and masks for every recipe and at every step."""

import torch
from torch import Tensor

from unmask.data import Blocks
from unmask.diffusion.bound import Bound, exact_nll, nelbo_from_draws
from unmask.diffusion.estimators import ESTIMATORS, Draws
from unmask.diffusion.masking import Corrupted, next_token
from unmask.diffusion.noise import Stream, uniform, uniform_double
from unmask.diffusion.objective import predicted_cross_entropy
from unmask.evaluate.config import ValidationConfig
from unmask.model import Transformer


@torch.no_grad()
def validate(
    model: Transformer,
    blocks: Blocks,
    config: ValidationConfig,
    mask_id: int,
    *,
    estimator: str = "fixed-count",
) -> Bound:
    """Measure the NELBO of a denoiser, or the exact likelihood of a causal model.

    Each of the chosen blocks gets ``config.draws`` masks; the standard error is over blocks. The
    result does not depend on ``config.batch_size`` beyond rounding.

    Args:
        estimator: a name in `unmask.diffusion.estimators.ESTIMATORS`; a causal model, whose
            likelihood is exact, needs none.

    Returns:
        Nats per token with standard error and, for a denoiser, the curve c(t).
    """
    chosen = evenly_spaced(len(blocks), config.blocks)
    x, valid = blocks.batch(chosen)
    lengths = torch.full((len(x),), x.shape[1]) if valid is None else valid.sum(dim=1)
    u = uniform_double(config.seed, Stream.EVAL_SIZE, 0, torch.arange(len(x)), config.draws)
    draws = None if model.causal else ESTIMATORS[estimator](lengths, u)
    ce, masked = _sums(model, chosen, draws, blocks, config, mask_id)
    if draws is None:
        return exact_nll(ce.squeeze(1), lengths)
    return nelbo_from_draws(ce, draws.weight, masked, draws.rate, lengths)


def evenly_spaced(total: int, wanted: int) -> Tensor:
    """At most ``wanted`` block indices spread over all ``total``: (n,) int64, increasing."""
    n = min(total, wanted)
    return torch.arange(n) * total // n


def _sums(
    model: Transformer,
    chosen: Tensor,
    draws: Draws | None,
    blocks: Blocks,
    config: ValidationConfig,
    mask_id: int,
) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy (nats) and number of the predicted tokens of each (block, draw).

    Args:
        draws: the masks; None for a causal model, which predicts all once.

    Returns:
        (n, m) float32 and (n, m) int64; m is 1 without draws.
    """
    device = model.embedding.weight.device
    m = 1 if draws is None else draws.rate.shape[1]
    sums, counts = torch.zeros(len(chosen), m), torch.zeros(len(chosen), m, dtype=torch.int64)
    for draw in range(m):
        for rows in torch.arange(len(chosen)).split(config.batch_size):
            x, valid = blocks.batch(chosen[rows])
            x = x.to(device)
            valid = None if valid is None else valid.to(device)
            if draws is None:
                corrupted = next_token(x, x[:, 0], x, valid, mask_id)
            else:
                noise, slots = draws.noise(draw), rows.to(device)
                u = uniform(config.seed, Stream.EVAL_MASK, noise, slots, x.shape[1])
                mask = draws.mask(rows, draw, u, valid)
                corrupted = Corrupted(x.masked_fill(mask, mask_id), mask)
            sums[rows, draw] = _batch_sums(model, x, corrupted, valid).cpu()
            counts[rows, draw] = corrupted.predicted.sum(dim=1).cpu()
    return sums, counts


def _batch_sums(
    model: Transformer, x: Tensor, corrupted: Corrupted, valid: Tensor | None
) -> Tensor:
    """(B,) summed cross-entropy of the predicted tokens, in nats."""
    hidden = model(corrupted.inputs, valid)
    ce, rows = predicted_cross_entropy(hidden, x, corrupted.predicted, model.head)
    return torch.zeros(len(x), device=x.device).index_add(0, rows, ce)
