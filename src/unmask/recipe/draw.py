"""What a recipe draws for the rows of a batch: masks for every loop, batches for any but ours.

masker = Masker("narrow-scattered", mask_id=103, steps=10_000, batch_size=256)
batch = masker(x, valid, step=step)   # x: (b, L) clean tokens of this process
loss = batch.loss(model(batch.inputs))  # nats per token
"""

from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from unmask.base.errors import UserError
from unmask.diffusion.linear_cross_entropy import Projection
from unmask.diffusion.noise import Stream, uniform
from unmask.diffusion.objective import predicted_loss
from unmask.diffusion.transfer import send
from unmask.recipe.parse import parse_recipe
from unmask.recipe.recipe import Portion, Recipe

_CPU = torch.device("cpu")


def draw_mask(
    portion: Portion,
    *,
    seed: int,
    step: int,
    length: int,
    maskable: Tensor | None,
    device: torch.device,
) -> Tensor:
    """The masks of some samples of a step, by the counters alone, before a model refines them.

    Args:
        portion: those samples.
        seed, step: as in `Recipe.portions`.
        length: L.
        maskable: (b, L) bool, where tokens may be masked; None: everywhere.
        device: where the masks are asked for.

    Returns:
        (b, L) bool.
    """
    objective, masking = portion.objective, portion.objective.masking
    place = _CPU if masking.float64 else device  # where they are computed
    mask = masking.mask(
        send(portion.rates, place),
        uniform(seed, Stream.MASK, step, send(portion.sequences, place), length),
        None if maskable is None else send(maskable, place),
    )
    mask = send(mask, device)
    if objective.paired:
        mask = mask ^ send(portion.second, device)[:, None]
        mask = mask if maskable is None else mask & send(maskable, device)
    return mask


@dataclass(frozen=True)
class MaskedBatch:
    """Rows of a global batch, hidden and weighed by a recipe.

    Attributes:
        inputs: (b, L) int64, what the network reads: the mask token where it has to predict.
        targets: (b, L) int64, the clean tokens.
        predicted: (b, L) bool, where the network predicts; never at padding.
        t: (b,) float32 in (0, 1], the mask rates.
        weights: (b,) float32, w(t) of each row's summed cross-entropy, scaled so that the loss of
            an undecided network is log V whatever the recipe.
        tokens: how many of the tokens are no padding, a scalar.
    """

    inputs: Tensor
    targets: Tensor
    predicted: Tensor
    t: Tensor
    weights: Tensor
    tokens: Tensor

    @property
    def labels(self) -> Tensor:
        """(b, L) int64: the clean tokens where predicted, -100 elsewhere."""
        return self.targets.masked_fill(~self.predicted, -100)

    def loss(self, logits: Tensor, tokens: Tensor | float | None = None) -> Tensor:
        """The training loss of the rows, in nats per token, a scalar.

        Args:
            logits: (b, L, V); those at position i predict token i.
            tokens: what the weighted sum is divided by; None: these rows' own tokens. Where a
                trainer takes the mean over P processes and micro-batches, and rows are padded, a
                P-th of the global batch's tokens makes that mean the global batch's loss.
        """
        rows, places = self.predicted.nonzero(as_tuple=True)
        targets = self.targets[rows, places]
        ce = F.cross_entropy(logits[rows, places].float(), targets, reduction="none")
        return (self._weights(tokens)[rows] * ce).sum()

    def loss_of_hidden(
        self, hidden: Tensor, head: Projection, tokens: Tensor | float | None = None
    ) -> Tensor:
        """As `loss`, of final hidden states (b, L, D): full logits never exist.

        Args:
            hidden: those at position i predict token i.
            head: the vocabulary projection; its bias, if any, is taken as constant.
            tokens: as in `loss`.

        Raises:
            ValueError: the head's bias wants a gradient, which is not computed.
        """
        weights = self._weights(tokens)
        return predicted_loss(hidden, self.targets, self.predicted, weights, head)

    def _weights(self, tokens: Tensor | float | None) -> Tensor:
        """Of the rows' summed cross-entropies in the loss."""
        return self.weights / (self.tokens if tokens is None else tokens)


@dataclass(frozen=True)
class Masker:
    """Hides tokens of another loop's batches, by a recipe, as our own loop would.

    Everything is a function of (recipe, seed, step, place in the global batch): mask rates are
    stratified over the global batch of an optimiser step, and no two rows of it have the noise of
    their masks in common, whatever processes and micro-batches they are on.

    Attributes:
        recipe: a recipe, or its text, ``NAME[:key=value,...]``.
        mask_id: the mask token.
        steps: optimiser steps of the whole training; what changes in a recipe, changes with it.
        batch_size: rows in the global batch: of all processes and micro-batches of a step.
        seed: of rates and masks.
        micro_batches: how many a process accumulates in a step.
        rank, world_size: this process among those with other rows; None: as torch.distributed has
            it, if it is initialised. To be given where some processes share their rows (tensor
            parallel).

    Raises:
        UserError: a recipe that needs more than hidden tokens, or a number out of its range.
    """

    recipe: Recipe | str
    mask_id: int
    steps: int
    batch_size: int
    seed: int = 0
    micro_batches: int = 1
    rank: int | None = None
    world_size: int | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "micro_batches", "world_size"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise UserError(f"{name} must be at least 1, not {number}")
        if (self.rank is None) != (self.world_size is None):
            raise UserError("rank and world_size are given together, or neither is")
        if self.rank is not None and not 0 <= self.rank < (self.world_size or 0):
            raise UserError(
                f"rank must be from 0 to {(self.world_size or 0) - 1}, not {self.rank}: "
                f"world_size is {self.world_size}"
            )
        if isinstance(self.recipe, str):
            object.__setattr__(self, "recipe", parse_recipe(self.recipe))
        _check(self._recipe)

    @property
    def _recipe(self) -> Recipe:
        assert isinstance(self.recipe, Recipe)  # as `__post_init__` makes sure
        return self.recipe

    def __call__(
        self, x: Tensor, valid: Tensor | None = None, *, step: int, micro_batch: int = 0
    ) -> MaskedBatch:
        """Hide tokens of this process's rows of a micro-batch.

        Args:
            x: (b, L) int64 clean tokens. A last batch may have fewer rows than its share.
            valid: (b, L), true or not 0 where a token may be hidden and counts: not at padding,
                nor at special tokens that are only read; None: everywhere.
            step: optimiser steps before it, from 0.
            micro_batch: its number in this step, from 0.

        Raises:
            UserError: there are more rows than this process and micro-batch have in the global
                batch, or shapes do not fit.
        """
        if x.ndim != 2 or (valid is not None and valid.shape != x.shape):
            shapes = [tuple(x.shape)] + ([] if valid is None else [tuple(valid.shape)])
            raise UserError(f"tokens must be (b, L), and valid the same, not {shapes}")
        slots = self._slots(len(x), step, micro_batch)
        valid = None if valid is None else valid.bool()
        t, weights = torch.empty(len(x)), torch.empty(len(x))
        predicted = torch.zeros_like(x, dtype=torch.bool)
        for portion in self._recipe.portions(
            seed=self.seed, step=step, steps=self.steps, slots=slots, batch_size=self.batch_size
        ):
            rows = portion.slots - slots[:1]
            t[rows] = portion.t
            weights[rows] = portion.objective.weights(portion.t)
            rows = send(rows, x.device)
            predicted[rows] = draw_mask(
                portion,
                seed=self.seed,
                step=step,
                length=x.shape[1],
                maskable=None if valid is None else valid[rows],
                device=x.device,
            )
        return MaskedBatch(
            x.masked_fill(predicted, self.mask_id),
            x,
            predicted,
            send(t, x.device),
            send(weights, x.device),
            x.new_full((), x.numel()) if valid is None else valid.sum(),
        )

    def _slots(self, n: int, step: int, micro_batch: int) -> Tensor:
        """(n,) int64, the places in the global batch that a process's rows have, one by one."""
        if step < 0 or not 0 <= micro_batch < self.micro_batches:
            raise UserError(
                f"step is counted from 0 and micro_batch from 0 to {self.micro_batches - 1}, "
                f"not {step} and {micro_batch}"
            )
        rank, size = self.rank, self.world_size
        if rank is None or size is None:
            together = dist.is_available() and dist.is_initialized()
            rank, size = (dist.get_rank(), dist.get_world_size()) if together else (0, 1)
        mine = torch.arange(self.batch_size).tensor_split(size)[rank]
        mine = mine.tensor_split(self.micro_batches)[micro_batch]
        if n > len(mine):
            raise UserError(
                f"{n} rows, but batch_size {self.batch_size} over {size} processes with "
                f"{self.micro_batches} micro-batches each leaves {len(mine)} for this one"
            )
        return mine[:n]


def _check(recipe: Recipe) -> None:
    """Make sure that hiding tokens of independent rows is all that a recipe asks for.

    Raises:
        UserError: it is not; what to write instead.
    """
    name, model = f"recipe {recipe.name!r}", "a model that predicts token i at position i"
    if recipe.causal:
        raise UserError(f"{name} is autoregressive, which {model} cannot be trained by")
    needs = {
        f"has next-token samples, which {model} cannot be trained on: set next-token=0": any(
            objective.causal for objective in recipe.objectives
        ),
        "fits its rates to what training meets, which only unmask's own loop shows it: "
        "set fit=none": bool(recipe.observers()),
        "pairs masks, so that every sequence stands in a batch twice: set paired=false": (
            recipe.main.paired
        ),
        "lets the model look at its masks, which only unmask's own loop does: "
        "set masking=bernoulli": any(o.masking.refines for o in recipe.objectives),
    }
    problems = [need for need, needed in needs.items() if needed]
    if problems:
        raise UserError(f"{name} " + "; it ".join(problems))
