"""What a recipe is, and what a training step asks it for."""

import dataclasses
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from unmask.base.errors import UserError, unknown
from unmask.base.spec import format_spec
from unmask.diffusion.adaptive import EXPLORED, FITS, RateStatistics
from unmask.diffusion.masking import MASKINGS, Confidence, Corrupted
from unmask.diffusion.noise import Stream, uniform_double
from unmask.diffusion.objective import WEIGHTINGS, Importance
from unmask.diffusion.time import (
    TIME_DISTRIBUTIONS,
    Full,
    Mirrored,
    Mixture,
    TimeDistribution,
    Uniform,
    alternating_strata,
    stratify,
)

GROUPS = ("baseline", "time", "masks", "schedule", "combined", "autoregressive")
"""What a recipe may change in ``standard``."""


@dataclass(frozen=True)
class Overrides:
    """The options of a recipe that are its own; every other one is its time distribution's."""

    weight: str
    masking: str
    stratified: bool
    paired: bool
    ar_warmup: float
    anneal: float
    fit: str


@dataclass(frozen=True)
class Recipe:
    """How a training step draws mask rates, masks with them, and weighs the loss.

    Attributes:
        name: what it is called.
        time: distribution of the mask rate.
        weight: a name in `WEIGHTINGS`.
        masking: a name in `MASKINGS`.
        stratified: one rate in each of B equal strata of the global batch, or independent rates.
        paired: whether a batch holds B/2 sequences twice, with a mask and with its complement.
        ar_warmup: share of the steps, at the start, that train the same weights autoregressively.
        anneal: share of the steps, at the end, over which the rates go over to uniform ones.
        fit: a name in `FITS`: what ``time`` becomes of what the training steps meet.
        group: what it changes, a name in `GROUPS`, for tables that put like with like.
    """

    name: str
    time: TimeDistribution
    weight: str = "flat"
    masking: str = "bernoulli"
    stratified: bool = True
    paired: bool = False
    ar_warmup: float = 0.0
    anneal: float = 0.0
    fit: str = "none"
    group: str = "time"

    def __post_init__(self) -> None:
        if self.weight not in WEIGHTINGS:
            raise unknown("weight", self.weight, WEIGHTINGS)
        if self.masking not in MASKINGS:
            raise unknown("masking", self.masking, MASKINGS)
        if self.fit not in FITS:
            raise unknown("fit", self.fit, FITS)
        if isinstance(self.time, Full) != self.causal:
            raise UserError(
                f"recipe {self.name!r}: time=full and masking=next-token go together "
                "(the autoregressive twin predicts every token)"
            )
        if isinstance(self.time, Full) and isinstance(WEIGHTINGS[self.weight], Importance):
            raise UserError(f"recipe {self.name!r}: weight=importance needs a time with a density")
        if self.paired and self.masking != "bernoulli":
            raise UserError(f"recipe {self.name!r}: paired masks need masking=bernoulli")
        if not (0 <= self.ar_warmup < 1 and 0 <= self.anneal <= 1):
            raise UserError(
                f"recipe {self.name!r}: ar_warmup must be in [0, 1) and anneal in [0, 1], "
                f"not {self.ar_warmup:g} and {self.anneal:g}"
            )
        if self.causal and (self.ar_warmup or self.anneal or self.fitted):
            raise UserError(f"recipe {self.name!r} is autoregressive: no ar_warmup, anneal or fit")

    @property
    def causal(self) -> bool:
        """Whether the model must be causal."""
        return MASKINGS[self.masking].causal

    @property
    def shifted(self) -> bool:
        """Whether position i - 1 predicts token i: what both phases of an AR warm-up share."""
        return self.ar_warmup > 0

    @property
    def fitted(self) -> bool:
        """Whether its rates depend on what the training steps meet."""
        return self.fit != "none"

    @property
    def phase(self) -> str:
        """``causal`` or ``masked``, as the records call it."""
        return "causal" if self.causal else "masked"

    def at(self, step: int, steps: int, seen: RateStatistics | None = None) -> "Recipe":
        """The recipe in force at a step (counted from 0) of a run of so many steps.

        Args:
            seen: what the steps before met; None: nothing yet.
        """
        if step < self.ar_warmup * steps:
            return _AR_PHASE
        time = self.time
        if self.fitted:
            fit = None if seen is None else FITS[self.fit](seen)
            time = Mixture(Uniform(), fit or time, EXPLORED)
        share = 1 - (steps - step) / (self.anneal * steps) if self.anneal else 0.0
        if share > 0:
            time = Mixture(Uniform(), time, share)
        return self if time is self.time else replace(self, time=time)

    @cached_property
    def drawn(self) -> TimeDistribution:
        """The distribution of all rates of a batch, those of complements among them."""
        return Mixture(self.time, Mirrored(self.time), 0.5) if self.paired else self.time

    @cached_property
    def _normaliser(self) -> float:
        return WEIGHTINGS[self.weight].mean(self.drawn)

    def places(self, slots: Tensor, batch_size: int) -> tuple[Tensor, int]:
        """Which of a batch's distinct sequences each slot holds, and how many of them there are.

        Raises:
            UserError: a batch of pairs is odd.
        """
        if not self.paired:
            return slots, batch_size
        if batch_size % 2:
            raise UserError(f"recipe {self.name!r} pairs masks: batch size {batch_size} is odd")
        return slots // 2, batch_size // 2

    def times(self, *, seed: int, step: int, slots: Tensor, batch_size: int) -> Tensor:
        """Mask rates of some samples of a step's global batch, a function of the counters alone.

        Args:
            seed: the run's seed.
            step: the optimiser step.
            slots: (b,) int64, the samples' places in the global batch, in [0, batch_size).
            batch_size: samples in the global batch, over all ranks and micro-batches.

        Returns:
            (b,) float32 in (0, 1].
        """
        places, n = self.places(slots, batch_size)
        u = uniform_double(seed, Stream.TIME, step, places, 1).squeeze(1)
        if self.stratified:
            u = stratify(alternating_strata(n)[places], u, n)
        t = self.time.draw(u).float()
        if not self.paired:
            return t
        t = (t / _GRAIN).round().clamp(1, 1 / _GRAIN - 1) * _GRAIN
        return torch.where(slots % 2 == 1, 1 - t, t)

    def noise(self, u: Tensor, slots: Tensor) -> Tensor:
        """The noise of masks from that of their places, (b, L) in [0, 1): of the second of a pair,
        such that exactly what the first leaves visible is masked.
        """  # noqa: D205
        if not self.paired:
            return u
        # All are multiples of the grain: exactly one of u < t and 1 - grain - u < 1 - t holds.
        return torch.where((slots % 2 == 1)[:, None], 1 - _GRAIN - u, u)

    def most_predicted(self, *, slots: Tensor, batch_size: int, length: int) -> Tensor | None:
        """The most positions predicted in some samples of any step's global batch.

        A sample's rate is at most what draws up to its stratum's upper end can reach.

        Args:
            slots: (b,) int64, as in `times`.
            batch_size: samples in the global batch.
            length: L, tokens in a block.

        Returns:
            (b,) int64; None where the masking has no bound but L.
        """
        most = MASKINGS[self.masking].most
        if most is None:
            return None
        upper = torch.ones(len(slots), dtype=torch.float64)
        if self.stratified:
            upper = (alternating_strata(batch_size)[slots] + 1).double() / batch_size
        t = self.time.at_most(upper).float()
        # A float32 above: rounding inside the quantile cannot lift a rate over it.
        t = torch.nextafter(t, torch.full_like(t, 2.0))
        return most(t, length).clamp(max=length)

    def corrupt(
        self, x: Tensor, t: Tensor, u: Tensor, *, valid: Tensor | None, mask_id: int
    ) -> Corrupted:
        """Hide tokens of x (B, L) at rates t (B,) with uniform noise u (B, L)."""
        return MASKINGS[self.masking].corrupt(x, t, u, valid, mask_id)

    def refine(
        self,
        corrupted: Corrupted,
        x: Tensor,
        t: Tensor,
        u: Tensor,
        *,
        confidence: Confidence,
        mask_id: int,
    ) -> Corrupted:
        """What becomes of the masks of `corrupt` where the model has a say in them."""
        refine = MASKINGS[self.masking].refine
        return refine(corrupted, x, t, u, confidence, mask_id) if refine else corrupted

    def weights(self, t: Tensor) -> Tensor:
        """Weight of each sample's summed cross-entropy, w(t) / E_p[w(t) t]; t's shape and dtype.

        The constant divisor is our choice (the paper does not say): with it every recipe's loss
        starts at log V, and a gradient-clipping threshold means the same for all.
        """
        return WEIGHTINGS[self.weight].weight(t, self.drawn) / self._normaliser

    def spec(self) -> str:
        """The recipe written out in full, every parameter named: `parse_recipe` reads it back."""
        time_name = next(k for k, v in TIME_DISTRIBUTIONS.items() if v is type(self.time))
        options = {
            "time": time_name,
            **dataclasses.asdict(self.time),  # type: ignore[call-overload]
            **{f.name: getattr(self, f.name) for f in dataclasses.fields(Overrides)},
        }
        return format_spec(self.name, options)


_AR_PHASE = Recipe("ar", Full(), masking="shifted-next-token")
_GRAIN = 2.0**-24  # the masks' noise is a multiple of it
