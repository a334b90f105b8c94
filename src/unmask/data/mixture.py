"""A mixture of corpora: its training blocks side by side, its validation blocks in proportion."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from unmask.data.blocks import Blocks, Rows
from unmask.data.coverage import Coverage
from unmask.data.order import Part


def side_by_side(corpora: Sequence[Blocks], weights: Sequence[int]) -> Blocks:
    """The training blocks of all corpora, to be drawn by their weights; a single one as it is."""
    if len(corpora) == 1:
        return corpora[0]
    parts = tuple(Part(len(blocks), w) for blocks, w in zip(corpora, weights, strict=True))
    n_tokens, n_bytes = sum(b.n_tokens for b in corpora), sum(b.n_bytes for b in corpora)
    coverage = _coverage(corpora)
    return Blocks(
        _rows(corpora),
        _lengths(corpora),
        n_tokens,
        n_bytes,
        coverage=coverage,
        mixed=parts,
        prompts=_prompts(corpora),
        separator=corpora[0].separator,
    )


def in_proportion(corpora: Sequence[Blocks], weights: Sequence[int]) -> Blocks:
    """Validation blocks of all corpora in the proportion of their weights; a single one as it is.

    As many as the shortest corpus allows, one of each at least, evenly spaced over each corpus's
    split. One corpus's stand after another's, so that evenly spaced ones of all are in proportion
    too. Bytes are counted by each corpus's own bytes per token.
    """
    if len(corpora) == 1:
        return corpora[0]
    sizes, shares = np.array([len(blocks) for blocks in corpora]), np.array(weights)
    total = (sizes * shares.sum() // shares).min()
    taken = np.maximum(1, total * shares // shares.sum())
    firsts = np.cumsum(sizes) - sizes
    order = np.concatenate(
        [f + np.arange(n) * size // n for f, n, size in zip(firsts, taken, sizes, strict=True)]
    )
    lengths = _lengths(corpora)
    lengths = None if lengths is None else lengths[order]
    prompts = _prompts(corpora)
    prompts = None if prompts is None else prompts[order]
    every = [blocks.n_maskable(torch.arange(len(blocks))).numpy() for blocks in corpora]
    held = np.concatenate(every)[order]
    tokens = np.add.reduceat(held, np.cumsum(taken) - taken)
    n_bytes = sum(t * b.n_bytes / b.n_tokens for t, b in zip(tokens, corpora, strict=True))
    n_tokens = int(tokens.sum())
    coverage = _coverage(corpora)
    return Blocks(
        _rows(corpora, order),
        lengths,
        n_tokens,
        round(n_bytes),
        coverage=coverage,
        prompts=prompts,
        separator=corpora[0].separator,
    )


def _coverage(corpora: Sequence[Blocks]) -> Coverage:
    """Of all the text, whatever the weights: by it a reader is warned."""
    return Coverage(
        sum(b.coverage.lost * b.n_bytes for b in corpora) / sum(b.n_bytes for b in corpora),
        sum(b.coverage.unknown * b.n_tokens for b in corpora) / sum(b.n_tokens for b in corpora),
    )


def _rows(corpora: Sequence[Blocks], order: NDArray[np.int64] | None = None) -> Rows:
    arrays = (blocks.tokens for blocks in corpora)
    return Rows(tuple(array for array in arrays if not isinstance(array, Rows)), order)


def _lengths(corpora: Sequence[Blocks]) -> NDArray[np.int32] | None:
    if all(blocks.lengths is None for blocks in corpora):
        return None
    every = [blocks.lengths_of(torch.arange(len(blocks))).numpy() for blocks in corpora]
    return np.concatenate(every).astype(np.int32)


def _prompts(corpora: Sequence[Blocks]) -> NDArray[np.int32] | None:
    if all(blocks.prompts is None for blocks in corpora):
        return None
    every = [blocks.prompts_of(torch.arange(len(blocks))).numpy() for blocks in corpora]
    return np.concatenate(every).astype(np.int32)
