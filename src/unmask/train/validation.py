"""The validation bound, on the same blocks and masks for every recipe and at every step."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.data.blocks import Blocks
from unmask.diffusion.bound import Bound, exact_nll, nelbo_from_draws
from unmask.diffusion.estimators import find_estimator
from unmask.diffusion.noise import Stream, uniform, uniform_double
from unmask.diffusion.objective import predicted_cross_entropy
from unmask.model.denoiser import Denoiser
from unmask.train.config import ValidationConfig
from unmask.train.processes import ALONE, Processes


@torch.no_grad()
def validate(
    model: Denoiser,
    blocks: Blocks,
    config: ValidationConfig,
    mask_id: int,
    *,
    estimator: str = "fixed-count",
    processes: Processes = ALONE,
    on_batch: Callable[[int], None] = lambda n: None,
) -> Bound:
    """Measure the NELBO of a denoiser, or the exact likelihood of a causal model.

    Each of the chosen blocks gets ``config.draws`` masks; the standard error is over blocks. A
    prompt is visible in all of them, and counts nowhere. The result does not depend on
    ``config.batch_size`` beyond rounding.

    Args:
        estimator: a name in `unmask.diffusion.estimators.ESTIMATORS`; a causal model, whose
            likelihood is exact, needs none.
        processes: all that validate the same network: each does its share of the blocks, and all
            have the result.
        on_batch: called with the number of sequences after each forward pass (for progress).

    Returns:
        Nats per token with standard error and, for a denoiser, the curve c(t).

    Raises:
        UserError: no such estimator, or not one for ``config.draws``.
    """
    chosen = evenly_spaced(len(blocks), config.blocks)
    lengths = blocks.n_maskable(chosen)
    u = uniform_double(config.seed, Stream.EVAL_SIZE, 0, torch.arange(len(chosen)), config.draws)
    draws = None if model.causal else find_estimator(estimator)(lengths, u)
    vocab_size = len(model.head.weight)
    surprisal = (
        _surprisal(blocks, chosen, vocab_size) if draws is not None and draws.control else None
    )
    # Of the predicted tokens in each draw of each block: nats, how many, the control variate.
    shape = len(chosen), 1 if draws is None else config.draws
    ce_sums, masked, control = (torch.zeros(shape, dtype=torch.float64) for _ in range(3))
    device = model.head.weight.device
    for draw in range(shape[1]):
        for batch in processes.batches(len(chosen), config.batch_size):
            # An empty one is a pass that the other processes need this one for.
            rows = batch if len(batch) else torch.zeros(1, dtype=torch.int64)
            x, valid = _to(device, *blocks.batch(chosen[rows]))
            maskable = valid if blocks.all_maskable else blocks.maskable(chosen[rows])
            maskable = None if maskable is None else maskable.to(device)
            if draws is None:
                inputs, predicted = (
                    x,
                    torch.ones_like(x, dtype=torch.bool) if maskable is None else maskable,
                )
            else:
                noise, slots = draws.noise(draw), rows.to(device)
                u = uniform(config.seed, Stream.EVAL_MASK, noise, slots, x.shape[1])
                predicted = draws.mask(rows, draw, u, maskable)
                inputs = x.masked_fill(predicted, mask_id)
            ce, row = predicted_cross_entropy(model(inputs, valid), x, predicted, model.head)
            if not len(batch):
                continue
            of_rows = torch.zeros(len(x), device=device).index_add(0, row, ce)
            ce_sums[rows, draw] = of_rows.cpu().double()
            masked[rows, draw] = predicted.sum(dim=1).cpu().double()
            if draws is not None and surprisal is not None:
                over = _surplus(surprisal[x.cpu()], predicted.cpu(), maskable)
                control[rows, draw] = draws.control * over
            on_batch(len(rows))
    processes.sum(ce_sums, masked, control)
    if draws is None:
        return exact_nll(ce_sums.squeeze(1), lengths)
    return nelbo_from_draws(ce_sums, draws.weight, masked, draws.rate, lengths, control)


def evenly_spaced(total: int, wanted: int) -> Tensor:
    """At most ``wanted`` block indices spread over all ``total``: (n,) int64, increasing."""
    n = min(total, wanted)
    return torch.arange(n) * total // n


def _surprisal(blocks: Blocks, chosen: Tensor, vocab_size: int) -> Tensor:
    """-log of each id's share of what may be masked in the chosen blocks, nats (inf if none)."""
    counts = blocks.token_counts(chosen).double()
    counts = F.pad(counts, (0, vocab_size - len(counts)))  # a prompt has other tokens
    return -(counts / counts.sum()).log()


def _surplus(surprisal: Tensor, masked: Tensor, maskable: Tensor | None) -> Tensor:
    """Surprisal of the masked tokens of a block, less its mean over all masks of their number.

    Args:
        surprisal: (B, L) nats.
        masked: (B, L) bool.
        maskable: (B, L) bool or None.

    Returns:
        (B,) nats.
    """
    there = torch.ones_like(masked) if maskable is None else maskable.cpu()
    surprisal = surprisal.masked_fill(~there, 0.0)
    share = masked.sum(dim=1).double() / there.sum(dim=1)
    return (surprisal * masked).sum(dim=1) - share * surprisal.sum(dim=1)


def _to(device: torch.device, x: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """On the device, and without ``valid`` where no row has padding: attention is faster so."""
    full = valid is None or bool(valid.all())
    return x.to(device), None if full or valid is None else valid.to(device)
