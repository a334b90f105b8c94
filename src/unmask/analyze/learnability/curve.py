"""c(t) of a denoiser in bins of any number, on fixed blocks and masks: for paired differences."""

import torch
from torch import Tensor

from unmask.data import Blocks
from unmask.diffusion.masking import FixedCount
from unmask.diffusion.noise import Stream, uniform, uniform_double
from unmask.diffusion.objective import predicted_cross_entropy
from unmask.diffusion.time import stratify
from unmask.model import Transformer

_AT_A_TIME = 64  # sequences in a forward pass


def bin_edges(bins: int) -> list[tuple[float, float]]:
    """Equal bins of the mask rate: (low, high) of each."""
    return [(k / bins, (k + 1) / bins) for k in range(bins)]


@torch.no_grad()
def binned_cross_entropy(
    model: Transformer, blocks: Blocks, chosen: Tensor, *, bins: int, draws: int, mask_id: int,
    seed: int = 0,
) -> Tensor:  # fmt: skip
    """Mean cross-entropy per masked token in each bin of t: (bins,) float64, nats.

    Each block gets ``draws`` masks in each bin, of exactly ceil(t n) of its n tokens with t uniform
    in the bin (stratified over the draws), and counts by its length. Over all bins ceil(t n) is
    uniform on 1..n, so the mean over bins estimates the NELBO per token without bias (see
    `unmask.diffusion.bound`). Rates and masks depend on (seed, bins, draws, places in ``chosen``)
    alone: two models are measured on the same ones.

    Args:
        chosen: (n,) int64 block indices.
    """
    device = model.embedding.weight.device
    total, tokens = torch.zeros(bins, dtype=torch.float64), 0
    for rows in torch.arange(len(chosen)).split(_AT_A_TIME):
        x, valid = blocks.batch(chosen[rows])
        lengths = torch.full((len(x),), x.shape[1]) if valid is None else valid.sum(dim=1)
        tokens += int(lengths.sum())
        x, valid = x.to(device), None if valid is None else valid.to(device)
        u = uniform_double(seed, Stream.CURVE_TIME, 0, rows, bins * draws)
        rates = stratify(torch.arange(bins * draws), u, bins * draws)  # (rows, bins * draws)
        for draw in range(bins * draws):
            noise = uniform(seed, Stream.CURVE_MASK, draw, rows.to(device), x.shape[1])
            t = (1 - rates[:, bins * draws - 1 - draw]).float().to(device)  # in (0, 1], increasing
            mask = FixedCount().mask(t, noise, valid)
            hidden = model(x.masked_fill(mask, mask_id), valid)
            ce, where = predicted_cross_entropy(hidden, x, mask, model.head)
            sums = torch.zeros(len(x), device=device).index_add(0, where, ce)
            means = sums / mask.sum(dim=1)
            total[draw // draws] += (means.cpu().double() * lengths).sum() / draws
    return total / tokens
