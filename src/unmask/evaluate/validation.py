"""The validation bound, on the same blocks, mask rates and masks for every recipe and step."""

import torch
from torch import Tensor

from unmask.data import Blocks
from unmask.diffusion.bound import Bound, exact_nll, nelbo_from_draws
from unmask.diffusion.masking import MASKINGS, Masking
from unmask.diffusion.noise import Stream, uniform, uniform_double
from unmask.diffusion.objective import predicted_cross_entropy
from unmask.diffusion.time import Uniform, stratify
from unmask.evaluate.config import ValidationConfig
from unmask.model import Transformer


@torch.no_grad()
def validate(model: Transformer, blocks: Blocks, config: ValidationConfig, mask_id: int) -> Bound:
    """Measure the NELBO of a denoiser, or the exact likelihood of a causal model.

    Each of the chosen blocks gets ``config.draws`` mask rates, stratified over (0, 1) among
    themselves, with a Bernoulli mask each; the standard error is over blocks. The result does not
    depend on ``config.batch_size`` beyond rounding.

    Returns:
        Nats per token with standard error and, for a denoiser, the curve c(t).
    """
    chosen = evenly_spaced(len(blocks), config.blocks)
    n = len(chosen)
    x, valid = blocks.batch(chosen)
    lengths = torch.full((n,), x.shape[1]) if valid is None else valid.sum(dim=1)
    if model.causal:
        ce, _ = _sums(model, chosen, torch.ones(n, 1), blocks, config, mask_id)
        return exact_nll(ce.squeeze(1), lengths)
    t = _mask_rates(n, config)
    ce, masked = _sums(model, chosen, t, blocks, config, mask_id)
    return nelbo_from_draws(ce, masked, t, lengths)


def evenly_spaced(total: int, wanted: int) -> Tensor:
    """At most ``wanted`` block indices spread over all ``total``: (n,) int64, increasing."""
    n = min(total, wanted)
    return torch.arange(n) * total // n


def _mask_rates(n: int, config: ValidationConfig) -> Tensor:
    """(n, draws) float64 mask rates; row i is stratified over (0, 1)."""
    m = config.draws
    u = uniform_double(config.seed, Stream.EVAL_TIME, 0, torch.arange(n), m)
    return Uniform().quantile(stratify(torch.arange(m), u, m))


def _sums(
    model: Transformer,
    chosen: Tensor,
    t: Tensor,
    blocks: Blocks,
    config: ValidationConfig,
    mask_id: int,
) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy (nats) and number of predicted tokens for each (block, draw): (n, m)."""
    masking = MASKINGS["next-token" if model.causal else "bernoulli"]
    device = model.embedding.weight.device
    ce_sums, counts = torch.zeros(t.shape), torch.zeros(t.shape, dtype=torch.int64)
    for draw in range(t.shape[1]):
        for rows in torch.arange(len(chosen)).split(config.batch_size):
            x, valid = blocks.batch(chosen[rows])
            x = x.to(device)
            valid = None if valid is None else valid.to(device)
            u = uniform(config.seed, Stream.EVAL_MASK, draw, rows.to(device), x.shape[1])
            rates = t[rows, draw].float().to(device)
            ce, count = _batch_sums(model, masking, x, rates, u, valid, mask_id)
            ce_sums[rows, draw], counts[rows, draw] = ce.cpu(), count.cpu()
    return ce_sums, counts


def _batch_sums(
    model: Transformer,
    masking: Masking,
    x: Tensor,
    t: Tensor,
    u: Tensor,
    valid: Tensor | None,
    mask_id: int,
) -> tuple[Tensor, Tensor]:
    corrupted = masking.corrupt(x, t, u, valid, mask_id)
    hidden = model(corrupted.inputs, valid)
    ce, rows = predicted_cross_entropy(hidden, x, corrupted.predicted, model.head)
    sums = torch.zeros(len(x), device=x.device).index_add(0, rows, ce)
    return sums, corrupted.predicted.sum(dim=1)
