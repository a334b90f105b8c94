"""Attention that stays within documents."""

import torch
from torch import Tensor


def within_documents(x: Tensor, separator: int, valid: Tensor | None, causal: bool) -> Tensor:
    """What each token of blocks that hold several documents may look at: its own document.

    A separator belongs to the document after it, as its start symbol; what stands before a block's
    first separator is a document too.

    Args:
        x: (B, L) int64 token ids, no separator of which is masked.
        separator: stands between documents.
        valid: (B, L) bool, False at padding; None where there is none.
        causal: whether a token looks only at itself and those before.

    Returns:
        (B, 1, L, L) bool, True where query (the third axis) may look at key (the last). Padding
        looks at itself, for every query has to look at something.
    """
    number = (x == separator).cumsum(1)
    seen = number[:, :, None] == number[:, None, :]
    if valid is not None:
        seen = seen & valid[:, None, :]
    if causal:
        seen = seen.tril()
    own = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
    return (seen | own)[:, None]
