"""The exact likelihood of a text under a model that reveals one token at a time in a fixed order.

A rule that picks the next position by the visible tokens alone makes of a denoiser a distribution
over texts: that of the texts which it writes by that rule, at temperature 1. Its likelihood is
exact, log p(x) = sum over the steps of log p(the picked token | the visible ones), for as many
passes as tokens (DUEL, arXiv 2603.01367).

It is not what the NELBO bounds: that averages over all orders.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from unmask.base.errors import unknown
from unmask.data.blocks import Blocks
from unmask.diffusion.bound import Bound, exact_nll
from unmask.diffusion.linear_cross_entropy import Projection, cross_entropies, log_confidences
from unmask.model.denoiser import Denoiser
from unmask.train.config import ValidationConfig
from unmask.train.validation import evenly_spaced

Rule = Callable[[Tensor, Tensor, Projection], Tensor]
"""(hidden states (M, D), rows (M,) int64 non-decreasing, head) -> scores (M,): highest is next."""


def _leftmost(hidden: Tensor, rows: Tensor, head: Projection) -> Tensor:
    return -torch.arange(len(rows), device=rows.device, dtype=torch.float32)


def _most_certain(hidden: Tensor, rows: Tensor, head: Projection) -> Tensor:
    return log_confidences(hidden, head)


RULES: dict[str, Rule] = {"left-to-right": _leftmost, "most-certain": _most_certain}
"""Which masked position is revealed next, by name. Of equals it is the first."""
TIE = 1e-3
"""Scores this close are equal: where all is masked, all positions are, but for rounding."""


def find_rule(name: str) -> Rule:
    """The rule of that name.

    Raises:
        UserError: there is none; the valid names are listed.
    """
    if name not in RULES:
        raise unknown("order", name, RULES)
    return RULES[name]


@torch.no_grad()
def ordered_likelihood(
    model: Denoiser,
    blocks: Blocks,
    config: ValidationConfig,
    mask_id: int,
    order: str,
    on_batch: Callable[[int], None] = lambda n: None,
) -> Bound:
    """Measure the exact likelihood of blocks, evenly spaced over all, in an order.

    Args:
        config: how many blocks, and how many at once; it draws nothing.
        order: a name in `RULES`.
        on_batch: called with the number of sequences after each forward pass.

    Returns:
        Nats per token with their standard error over blocks, and no curve.

    Raises:
        UserError: no such order.
    """
    rule = find_rule(order)
    chosen = evenly_spaced(len(blocks), config.blocks)
    device, nats = model.head.weight.device, []
    for rows in chosen.split(config.batch_size):
        x, valid = blocks.batch(rows)
        maskable = blocks.maskable(rows)
        valid, maskable = (None if m is None else m.to(device) for m in (valid, maskable))
        nats.append(ordered_nats(model, x.to(device), valid, maskable, mask_id, rule, on_batch))
    return exact_nll(torch.cat(nats).cpu(), blocks.n_maskable(chosen))


@torch.no_grad()
def ordered_nats(
    model: Denoiser,
    x: Tensor,
    valid: Tensor | None,
    maskable: Tensor | None,
    mask_id: int,
    rule: Rule,
    on_pass: Callable[[int], None] = lambda n: None,
) -> Tensor:
    """Negative log-likelihood of each row of tokens x (B, L), nats: (B,) float32.

    Args:
        model: the denoiser.
        valid: (B, L) bool, False at padding; None where there is none.
        maskable: (B, L) bool, the tokens whose likelihood is asked for; None: of all.
        mask_id: the mask token.
        rule: which masked position is revealed next.
        on_pass: called with the number of sequences after each forward pass.
    """
    masked = torch.ones_like(x, dtype=torch.bool) if maskable is None else maskable.clone()
    total = torch.zeros(len(x), device=x.device)
    while bool(masked.any()):
        row, place = masked.nonzero(as_tuple=True)
        states = model(x.masked_fill(masked, mask_id), valid)[masked]
        scores = rule(states, row, model.head)
        best = torch.full((len(x),), -torch.inf, device=x.device, dtype=scores.dtype)
        best = best.scatter_reduce(0, row, scores, "amax")
        at_best = (scores >= best[row] - TIE).nonzero().squeeze(1)
        first = torch.full((len(x),), len(row), device=x.device)
        first = first.scatter_reduce(0, row[at_best], at_best, "amin")
        picked = first[first < len(row)]
        nats = cross_entropies(states[picked], x[row[picked], place[picked]], model.head)
        total[row[picked]] += nats
        masked[row[picked], place[picked]] = False
        on_pass(len(picked))
    return total
