"""Text from a trained run."""

from collections.abc import Callable

import torch
from torch import Tensor

from unmask.diffusion.sampler import ancestral, left_to_right
from unmask.errors import UserError
from unmask.run import Run


@torch.no_grad()
def sample(
    run: Run,
    *,
    num: int = 4,
    length: int = 128,
    steps: int = 64,
    seed: int = 0,
    on_step: Callable[[Tensor], None] = lambda x: None,
) -> list[str]:
    """Draw texts: ancestral sampling for a denoiser, token by token for its causal twin.

    Args:
        run: an opened run.
        num: how many texts.
        length: tokens each, at most the block size the run was trained on.
        steps: denoising steps (a causal model always takes one a token).
        seed: the texts are a function of (weights, seed, num, length, steps).
        on_step: called with the (num, length) tokens after each step.

    Raises:
        UserError: a number out of range.
    """
    block_size = run.config.corpus.block_size
    for name, value, largest in (
        ("num", num, None),
        ("length", length, block_size),
        ("steps", steps, None),
    ):
        if value < 1 or (largest is not None and value > largest):
            limit = f"between 1 and {largest} (the run's block size)" if largest else "at least 1"
            raise UserError(f"--{name} must be {limit}, not {value}")
    model, mask_id = run.model, run.tokenizer.mask_id

    def denoise(x: Tensor, where: Tensor) -> Tensor:
        logits: Tensor = model.head(model(x)[where])
        return logits

    x = torch.full((num, length), mask_id, device=model.embedding.weight.device)
    if model.causal:
        x = left_to_right(denoise, x, mask_id, seed, on_step)
    else:
        x = ancestral(denoise, x, mask_id, steps, seed, on_step)
    return [run.tokenizer.decode(_document(row, run)) for row in x.tolist()]


def _document(row: list[int], run: Run) -> list[int]:
    """A run on padded blocks learnt one document a block: what follows its end means nothing."""
    separator = run.tokenizer.separator_id
    if run.config.corpus.packing == "pad" and separator in row:
        return row[: row.index(separator)]
    return row
