"""How likely a continuation is, given what stands before it.

For a masked diffusion model, the bound of `unmask.diffusion.bound` on the continuation alone: the
prefix stays visible, and only the n tokens of the continuation are ever masked,

    -log p(continuation | prefix)  <=  sum over k = 1..n of S_k / k,

S_k being the expected summed cross-entropy under masks of exactly k of them. This is the mean over
all orders in which the continuation can be revealed, by the same estimators as the NELBO. For a
causal model it is the likelihood itself.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.base.errors import unknown
from unmask.diffusion.estimators import ESTIMATORS, Draws, Estimator
from unmask.diffusion.noise import Stream, uniform, uniform_double
from unmask.diffusion.objective import predicted_cross_entropy
from unmask.diffusion.precision import finest
from unmask.model.denoiser import Denoiser

Pair = tuple[list[int], list[int]]
"""Token ids of a prefix, which may be empty, and of its continuation."""

CONDITIONAL_ESTIMATORS = tuple(name for name in ESTIMATORS if name != "controlled")
"""The estimators that need nothing but the pair; a control variate wants a text's statistics."""


@dataclass(frozen=True)
class _Job:
    """One forward pass: a pair, and which tokens of its continuation are hidden, (n,) bool."""

    pair: int
    mask: Tensor


@torch.no_grad()
def conditional_nll(
    model: Denoiser,
    pairs: Sequence[Pair],
    *,
    mask_id: int,
    draws: int = 16,
    seed: int = 0,
    batch_size: int = 64,
    estimator: str = "complementary",
) -> list[tuple[float, float]]:
    """Bound -log p(continuation | prefix) of each pair, in nats for the whole continuation.

    The noise of a pair comes from its own tokens, so that its result depends neither on the batch
    size (beyond rounding) nor on which other pairs are asked for. Masks that come up twice are
    computed once, so short continuations cost less than ``draws``.

    Args:
        model: a denoiser, or a causal model, for which the result is exact.
        pairs: prefix and continuation together no longer than the model takes.
        mask_id: the mask token.
        draws: masks for each pair.
        seed: another seed, other masks.
        batch_size: sequences per forward pass.
        estimator: one of `CONDITIONAL_ESTIMATORS`.

    Returns:
        (nats, standard error) of each pair. The error is that of the draws, taken for independent
        where they are stratified, so rather too large; 0 where the result is exact, nan for a
        single draw (or pair of draws).

    Raises:
        UserError: no such estimator, or not one for ``draws``.
    """
    if estimator not in CONDITIONAL_ESTIMATORS:
        raise unknown("estimator", estimator, CONDITIONAL_ESTIMATORS)
    if model.causal:
        jobs = [_Job(i, torch.ones(len(c), dtype=torch.bool)) for i, (_, c) in enumerate(pairs)]
        sums = _job_sums(model, pairs, jobs, mask_id, batch_size)
        return [(float(nats), 0.0) for nats in sums]
    jobs, drawn = list[_Job](), dict[int, tuple[Draws, Tensor, int]]()
    for i, pair in enumerate(pairs):
        if not pair[1]:
            continue
        found, masks = _draw(pair, ESTIMATORS[estimator], draws, seed)
        different, which = torch.unique(masks, dim=0, return_inverse=True)
        drawn[i] = found, which, len(jobs)
        jobs += [_Job(i, mask) for mask in different]
    sums = _job_sums(model, pairs, jobs, mask_id, batch_size)
    results = [(0.0, 0.0)] * len(pairs)
    for i, (found, which, first) in drawn.items():
        results[i] = _estimate(found, sums[first + which], len(pairs[i][1]))
    return results


@torch.no_grad()
def greedy_matches(
    model: Denoiser, pairs: Sequence[Pair], *, mask_id: int, batch_size: int = 64
) -> list[bool]:
    """Whether greedy generation after each prefix gives exactly its continuation.

    For a denoiser: with the whole continuation masked, the most probable token of the position
    where it is most probable is revealed, one at a time; every one must be the continuation's. A
    pair is done at the first that is not. For a causal model: the most probable next token, each
    time.
    """
    verdict = [True] * len(pairs)
    hidden = {i: torch.ones(len(c), dtype=torch.bool) for i, (_, c) in enumerate(pairs) if c}
    while hidden:
        jobs = [_Job(i, mask) for i, mask in hidden.items()]
        for batch in _batches(pairs, jobs, batch_size):
            for job, left in zip(batch, _left_hidden(model, pairs, batch, mask_id), strict=True):
                verdict[job.pair] = left is not None
                if left is None or not left.any():
                    del hidden[job.pair]
                else:
                    hidden[job.pair] = left
    return verdict


def _draw(pair: Pair, estimator: Estimator, draws: int, seed: int) -> tuple[Draws, Tensor]:
    """The draws for a pair and its masks, (m, n) bool."""
    prefix, continuation = pair
    text = np.array([len(prefix), *prefix, *continuation], dtype=np.int64).tobytes()
    slot = torch.tensor([int.from_bytes(hashlib.sha256(text).digest()[:4], "big")])
    n = len(continuation)
    u = uniform_double(seed, Stream.EVAL_SIZE, 0, slot, draws)
    found = estimator(torch.tensor([n]), u)
    row = torch.zeros(1, dtype=torch.int64)
    streams = found.noise(draws - 1) + 1
    noise = uniform(seed, Stream.EVAL_MASK, 0, slot, streams * n).view(streams, 1, n)
    masks = [found.mask(row, d, noise[found.noise(d)], None) for d in range(draws)]
    return found, torch.cat(masks)


def _estimate(draws: Draws, sums: Tensor, n: int) -> tuple[float, float]:
    """Nats and standard error from the (m,) summed cross-entropies of a pair's masks."""
    parts = draws.weight[0] * sums
    units = parts.view(-1, 2).sum(dim=1) if draws.paired else parts  # independent of each other
    if n == 1 and draws.size is not None:
        return float(parts.sum()), 0.0  # there is one mask, and all draws are it
    count = len(units)
    error = math.sqrt(count) * float(units.std()) if count > 1 else math.nan
    return float(parts.sum()), error


def _job_sums(
    model: Denoiser, pairs: Sequence[Pair], jobs: list[_Job], mask_id: int, batch_size: int
) -> Tensor:
    """Summed cross-entropy of the hidden tokens of each job: (len(jobs),) float64, nats."""
    place = {id(job): i for i, job in enumerate(jobs)}
    sums = torch.zeros(len(jobs), dtype=torch.float64)
    there = [job for job in jobs if job.mask.any()]
    for batch in _batches(pairs, there, batch_size):
        hidden, x, predicted = _forward(model, pairs, batch, mask_id)
        ce, rows = predicted_cross_entropy(hidden, x, predicted, model.head)
        total = torch.zeros(len(batch), dtype=torch.float64).index_add(
            0, rows.cpu(), ce.cpu().double()
        )
        sums[torch.tensor([place[id(job)] for job in batch])] = total
    return sums


def _batches(pairs: Sequence[Pair], jobs: list[_Job], batch_size: int) -> Iterator[list[_Job]]:
    """Jobs of like lengths together, the longest first."""
    ordered = sorted(jobs, key=lambda job: -sum(map(len, pairs[job.pair])))
    for start in range(0, len(ordered), batch_size):
        yield ordered[start : start + batch_size]


def _forward(
    model: Denoiser, pairs: Sequence[Pair], batch: list[_Job], mask_id: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states (B, L, D), clean tokens (B, L) and which of them are predicted (B, L)."""
    lengths = [sum(map(len, pairs[job.pair])) for job in batch]
    x = torch.full((len(batch), max(lengths)), mask_id)
    predicted = torch.zeros_like(x, dtype=torch.bool)
    for row, job in enumerate(batch):
        prefix, continuation = pairs[job.pair]
        x[row, : lengths[row]] = torch.tensor([*prefix, *continuation])
        predicted[row, len(prefix) : lengths[row]] = job.mask
    valid = torch.arange(x.shape[1])[None, :] < torch.tensor(lengths)[:, None]
    device = model.head.weight.device
    x, predicted, valid = x.to(device), predicted.to(device), valid.to(device)
    inputs = x if model.causal else x.masked_fill(predicted, mask_id)
    return model(inputs, None if bool(valid.all()) else valid), x, predicted


def _left_hidden(
    model: Denoiser, pairs: Sequence[Pair], batch: list[_Job], mask_id: int
) -> Iterator[Tensor | None]:
    """What stays hidden of each job after a greedy step; None if that reveals a wrong token.

    A denoiser reveals the token it is surest of, a causal model all of them.
    """
    hidden, x, predicted = _forward(model, pairs, batch, mask_id)
    logits = F.linear(hidden[predicted], model.head.weight, model.head.bias)
    counts = predicted.sum(dim=1).tolist()
    logp = logits.to(finest(logits.device)).log_softmax(dim=-1).cpu().split(counts)
    for job, found, tokens in zip(batch, logp, x[predicted].cpu().split(counts), strict=True):
        best, guess = found.max(dim=1)
        revealed = slice(None) if model.causal else best.argmax()
        left = job.mask.clone()
        left[job.mask.nonzero()[revealed]] = False
        yield left if torch.equal(guess[revealed], tokens[revealed]) else None
