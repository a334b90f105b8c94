"""Which mask rates teach which: a few steps with t in one bin, and what they change in every bin.

From the same weights and optimiser state, k optimiser steps are taken with t uniform in bin i alone
(flat weight); the change of c(t) in bin j is entry (i, j) of the transfer matrix. Before and after
are measured on the same blocks and masks, and the bins are trained on the same blocks, places in
their bin, and mask noise, so that both rows and columns compare like with like.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.data.blocks import Blocks
from unmask.diffusion.masking import FixedCount
from unmask.diffusion.noise import Stream, uniform, uniform_double
from unmask.diffusion.objective import predicted_cross_entropy
from unmask.diffusion.time import Uniform, stratify
from unmask.model.network import Network
from unmask.recipe.objective import Denoising
from unmask.recipe.recipe import Recipe
from unmask.train.batch import draw_batches
from unmask.train.config import TrainConfig
from unmask.train.optim import build_optimizers, restore_optimizers
from unmask.train.state import TrainingState
from unmask.train.step import batch_loss, take_step

_AT_A_TIME = 64  # sequences in a forward pass


@dataclass(frozen=True)
class Start:
    """Where the steps begin: a checkpoint's tensors and counters.

    Attributes:
        weights: of the network.
        optimizer: the optimisers' state, as checkpoints hold it; empty: a fresh one.
        step: optimiser steps done; the data order goes on from here.
        seed: the run's.
    """

    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    step: int
    seed: int


@dataclass(frozen=True)
class Transfer:
    """What steps in each row's range of t changed.

    Attributes:
        before: (J,) c(t) in each bin at the start, nats per masked token.
        change: (I, R, J) after less before, for each row and restart.
    """

    before: Tensor
    change: Tensor

    @property
    def nelbo_change(self) -> Tensor:
        """(I, R) change of the NELBO, nats per token: the mean over bins."""
        return self.change.mean(dim=-1)


def mean_and_stderr(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over the restarts, dimension 1, and its standard error."""
    n = values.shape[1]
    return values.mean(dim=1), values.std(dim=1) / n**0.5


def transfer_matrix(
    model: Network,
    start: Start,
    train: Blocks,
    valid: Blocks,
    chosen: Tensor,
    *,
    ranges: list[tuple[float, float]],
    bins: int,
    draws: int,
    config: TrainConfig,
    learning_rate: float,
    steps: int,
    restarts: int,
    mask_id: int,
    on_step: Callable[[], None] = lambda: None,
) -> Transfer:
    """Take steps in each range of t, from the start each time, and measure every bin.

    Args:
        model: on the device to compute on; left with the start's weights.
        ranges: the rows, (low, high) of t.
        bins, draws, chosen: as in `binned_cross_entropy`, of the validation blocks.
        config: batch size, optimiser, clipping and precision.
        learning_rate: of every step.
        restarts: each with training blocks and noise of its own, those of the run's next steps.
        on_step: called after every optimiser step.
    """

    def measure() -> Tensor:
        return binned_cross_entropy(model, valid, chosen, bins=bins, draws=draws, mask_id=mask_id)

    model.load_state_dict(start.weights)
    before = measure()
    change = torch.zeros(len(ranges), restarts, bins, dtype=torch.float64)
    for row, (low, high) in enumerate(ranges):
        recipe = Recipe(f"t in {low:g} to {high:g}", Denoising(Uniform(low, high)))
        for restart in range(restarts):
            first = start.step + restart * steps
            _train(model, start, recipe, train, config, learning_rate,
                   range(first, first + steps), mask_id, on_step)  # fmt: skip
            change[row, restart] = measure() - before
    model.load_state_dict(start.weights)
    return Transfer(before, change)


def _train(
    model: Network,
    start: Start,
    recipe: Recipe,
    blocks: Blocks,
    config: TrainConfig,
    learning_rate: float,
    steps: range,
    mask_id: int,
    on_step: Callable[[], None],
) -> None:
    """Put the model back to the start and train it for the given steps."""
    model.load_state_dict(start.weights)
    state = TrainingState(model, build_optimizers(model, config))
    tensors = {name: value.clone() for name, value in start.optimizer.items()}
    restore_optimizers(state.optimizers, model, tensors)
    loss, device = batch_loss(model, mask_id), model.head.weight.device
    for step in steps:
        batches = draw_batches(
            recipe,
            blocks,
            config,
            seed=start.seed,
            step=step,
            device=device,
            self_conditioning=model.self_conditioning,
            opening=model.opening,
        )
        take_step(state, loss, batches, config, step=step, learning_rate=learning_rate)
        on_step()


def bin_edges(bins: int) -> list[tuple[float, float]]:
    """Equal bins of the mask rate: (low, high) of each."""
    return [(k / bins, (k + 1) / bins) for k in range(bins)]


@torch.no_grad()
def binned_cross_entropy(
    model: Network, blocks: Blocks, chosen: Tensor, *, bins: int, draws: int, mask_id: int,
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
    device = model.head.weight.device
    total, tokens = torch.zeros(bins, dtype=torch.float64), 0
    for rows in torch.arange(len(chosen)).split(_AT_A_TIME):
        x, valid = blocks.batch(chosen[rows])
        maskable, lengths = blocks.maskable(chosen[rows]), blocks.n_maskable(chosen[rows])
        tokens += int(lengths.sum())
        x, valid = x.to(device), None if valid is None else valid.to(device)
        maskable = None if maskable is None else maskable.to(device)
        u = uniform_double(seed, Stream.CURVE_TIME, 0, rows, bins * draws)
        rates = stratify(torch.arange(bins * draws), u, bins * draws)  # (rows, bins * draws)
        for draw in range(bins * draws):
            noise = uniform(seed, Stream.CURVE_MASK, draw, rows.to(device), x.shape[1])
            t = (1 - rates[:, bins * draws - 1 - draw]).float().to(device)  # in (0, 1], increasing
            mask = FixedCount().mask(t, noise, maskable)
            hidden = model(x.masked_fill(mask, mask_id), valid)
            ce, where = predicted_cross_entropy(hidden, x, mask, model.head)
            sums = torch.zeros(len(x), device=device).index_add(0, where, ce)
            means = sums / mask.sum(dim=1)
            total[draw // draws] += (means.cpu().double() * lengths).sum() / draws
    return total / tokens
