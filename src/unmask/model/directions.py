"""Causal networks of `transformers`, made to attend both ways."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.model.documents import within_documents


def hidden_states(
    network: Any,
    x: Tensor,
    valid: Tensor | None,
    *,
    start: int | None,
    causal: bool,
    separator: int | None = None,
    reach: Tensor | None = None,
) -> Tensor:
    """Hidden states of a causal network that attends both ways, or causally as it has learnt.

    Args:
        network: an ``AutoModel`` of a causal language model.
        x: (B, L) int64 token ids.
        valid: (B, L) bool, False at padding, which stands at the right end; None: none.
        start: a token before the inputs: the state for token i is that of the position before it.
            None: it is that of its own position.
        causal: whether it attends causally.
        separator: stands between documents, and attention stays within them; None: it goes over
            all tokens.
        reach: () int64, how far each token sees to its right where it is not causal; None: as far
            as there is anything.

    Returns:
        (B, L, D); meaningless at padding.
    """
    length = x.shape[1]
    if start is not None:
        x = F.pad(x, (1, 0), value=start)
        valid = None if valid is None else F.pad(valid, (1, 0), value=True)
    if causal:  # no position sees the padding after it
        x, valid, mask = x[:, :length], None, None
    if separator is not None:
        mask = within_documents(x, separator, valid, causal)
    elif not causal:  # a mask of all queries and keys is taken as it is, in place of the causal one
        seen = x.new_ones(1, 1, dtype=torch.bool) if valid is None else valid
        mask = seen[:, None, None, :].expand(-1, 1, x.shape[1], x.shape[1])
    if reach is not None and not causal:
        place = torch.arange(x.shape[1], device=x.device)
        assert mask is not None
        mask = mask & (place[None, :] - place[:, None] <= reach)
    output = network(input_ids=x, attention_mask=mask, use_cache=False)
    states: Tensor = output.last_hidden_state
    return states[:, :length]
