"""What a recipe is, and what a training step asks it for."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unmask.base.errors import UserError, unknown
from unmask.base.spec import format_spec
from unmask.base.wording import counted
from unmask.diffusion.adaptive import RateStatistics
from unmask.diffusion.noise import Stream, uniform_double
from unmask.diffusion.time import alternating_strata, stratify
from unmask.recipe.objective import COMPANIONS, Objective, Observers
from unmask.recipe.share import Share, check_sum

GROUPS = ("baseline", "time", "masks", "schedule", "combined", "autoregressive")
"""What a recipe may change in ``standard``."""
MIXES = ("batch", "steps")


class Portion(NamedTuple):
    """The samples of a step that are trained on one objective.

    Attributes:
        objective: that objective.
        slots: (b,) int64, the samples' places in the global batch.
        sequences: (b,) int64, which of the step's distinct sequences each of them is.
        n_sequences: how many distinct sequences the step has.
        u: (b,) float64 in [0, 1], uniform: what the mask rates are drawn with.
        u_at_least: (b,) float64, what each step's u of these slots reaches.
        u_at_most: (b,) float64, what none of them exceeds.
    """

    objective: Objective
    slots: Tensor
    sequences: Tensor
    n_sequences: int
    u: Tensor
    u_at_least: Tensor
    u_at_most: Tensor

    @property
    def rates(self) -> Tensor:
        """(b,) float32, the rates that masks are drawn at, before the second of a pair turns."""
        return self.objective.rates(self.u)

    @property
    def t(self) -> Tensor:
        """(b,) float32 in (0, 1], the mask rates."""
        return torch.where(self.second, 1 - self.rates, self.rates)

    @property
    def second(self) -> Tensor:
        """(b,) bool, the second half of each pair."""
        return (self.slots % 2 == 1) & self.objective.paired

    def among(self, slots: Tensor) -> "Portion":
        """Its samples in some slots."""
        mine = torch.isin(self.slots, slots)
        rows = (self.slots[mine], self.sequences[mine])
        draws = (u[mine] for u in (self.u, self.u_at_least, self.u_at_most))
        return Portion(self.objective, *rows, self.n_sequences, *draws)


@dataclass(frozen=True)
class Recipe:
    """Objectives, and the share of each as a function of the progress of training.

    Attributes:
        name: what it is called.
        main: the objective of all samples that no companion takes; the model is evaluated as one
            of its kind, causal or not.
        shares: names in `COMPANIONS` and the share of the samples that each takes.
        mix: ``batch``: the samples of every batch are divided; ``steps``: each step has one
            objective, of which every run of steps has nearly its share.
        group: what it changes, a name in `GROUPS`, for tables that put like with like.
    """

    name: str
    main: Objective
    shares: Mapping[str, Share] = field(default_factory=dict)
    mix: str = "batch"
    group: str = "time"

    def __post_init__(self) -> None:
        for name in self.shares:
            if name not in COMPANIONS:
                raise unknown("companion objective", name, COMPANIONS)
        if self.mix not in MIXES:
            raise unknown("mix", self.mix, MIXES)
        if not self.shares:
            return
        if self.causal:
            raise UserError(f"recipe {self.name!r} is autoregressive: it has no companions")
        check_sum(self.shares, self.name)
        for name, objective in self._companions.items():
            divided = self.mix == "batch" and not self.shares[name].whole
            if divided and objective.paired != self.main.paired:
                raise UserError(
                    f"recipe {self.name!r} pairs masks: {name} can have whole batches alone "
                    "(mix=steps)"
                )

    @property
    def causal(self) -> bool:
        """Whether the trained network must not look ahead."""
        return self.main.causal

    @property
    def start_symbol(self) -> bool:
        """Whether a start symbol stands before the inputs: position i - 1 then predicts token i.

        What serves a causal network and a bidirectional one alike.
        """
        return any(objective.causal for objective in self.objectives)

    @cached_property
    def _companions(self) -> dict[str, Objective]:
        made = {name: make for name, make in COMPANIONS.items() if name in self.shares}
        return {name: make(self.main) for name, make in made.items()}  # type: ignore[arg-type]

    @property
    def objectives(self) -> list[Objective]:
        """The companions, and the main one last."""
        return [*self._companions.values(), self.main]

    def check_steps(self, steps: int) -> None:
        """Make sure that a run of so many steps trains on the main objective too.

        Raises:
            UserError: shares at steps leave it none.
        """
        if not any(share.in_steps for share in self.shares.values()):
            return
        ends = {
            int(at) for share in self.shares.values() if share.in_steps for _, at in share.points
        }
        looked_at = {step for end in ends for step in (end, end + 1) if step < steps}
        shares = self.shares.values()
        if all(sum(s.at(step, steps) for s in shares) >= 1 for step in {0, steps - 1, *looked_at}):
            raise UserError(
                f"recipe: {self.name} has no step left of the run's {counted(steps, 'step')}: its "
                f"{', '.join(self.shares)} has them all; give train.steps more"
            )

    def observers(self, device: torch.device | None = None) -> dict[str, RateStatistics]:
        """What has to watch the training steps: names of checkpoint files, and what fills them."""
        return self.main.observers(device)

    def divided(
        self, step: int, steps: int, observers: Observers | None = None
    ) -> list[tuple[Objective, float, float]]:
        """The objectives of a step (counted from 0) of so many, each with its part of [0, 1).

        Args:
            observers: what `observers` gave, with what the steps before have shown it.

        Returns:
            (objective, start, end) of those with any part: they divide [0, 1).
        """
        shares = [self.shares[name].at(step, steps) for name in self._companions]
        edges = [0.0]
        for share in shares:
            edges.append(min(edges[-1] + share, 1.0))
        parts = list(zip(self.objectives, edges, [*edges[1:], 1.0], strict=True))
        if self.mix == "steps":
            v = (step * _GOLDEN) % 1
            parts = [(objective, 0.0, 1.0) for objective, a, b in parts if a <= v < b]
        seen = observers or {}
        return [(objective.at(step, seen), a, b) for objective, a, b in parts if a < b]

    def portions(
        self,
        *,
        seed: int,
        step: int,
        steps: int,
        slots: Tensor,
        batch_size: int,
        observers: Observers | None = None,
    ) -> list[Portion]:
        """What some samples of a step's global batch are trained on, by the counters alone.

        Args:
            seed: the run's seed.
            step: the optimiser step.
            steps: of the whole run.
            slots: (b,) int64, the samples' places in the global batch, in [0, batch_size).
            batch_size: samples in the global batch, over all ranks and micro-batches.
            observers: as in `divided`.

        Raises:
            UserError: a batch of pairs is odd.
        """
        self.check_batch_size(batch_size)
        parts = self.divided(step, steps, observers)
        leading = parts[-1][0]  # all of a step are alike in this
        n = batch_size // 2 if leading.paired else batch_size
        sequences = slots // 2 if leading.paired else slots
        u = uniform_double(seed, Stream.TIME, step, sequences, 1).squeeze(1)
        lower, upper = torch.zeros_like(u), torch.ones_like(u)
        if leading.stratified:
            stratum = alternating_strata(n)[sequences]
            u = stratify(stratum, u, n)
            lower, upper = stratum.double() / n, (stratum + 1).double() / n
        portions = []
        for objective, start, end in parts:
            mine = (start <= u) & (u < end)
            draws = (((v[mine] - start) / (end - start)).clamp(0, 1) for v in (u, lower, upper))
            portions.append(Portion(objective, slots[mine], sequences[mine], n, *draws))
        return portions

    def check_batch_size(self, batch_size: int) -> None:
        """Make sure that a global batch of so many samples can be drawn.

        Raises:
            UserError: a batch of pairs is odd.
        """
        if self.main.paired and batch_size % 2:
            raise UserError(f"recipe {self.name!r} pairs masks: batch size {batch_size} is odd")

    def spec(self) -> str:
        """The recipe written out in full, every parameter named: `parse_recipe` reads it back."""
        options: dict[str, Any] = self.main.options()
        if options:
            options |= {"mix": self.mix}
            options |= {name: self.shares.get(name, Share.parse("0")) for name in COMPANIONS}
        return format_spec(self.name, options)


_GOLDEN = (math.sqrt(5) - 1) / 2
