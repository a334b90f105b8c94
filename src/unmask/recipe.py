"""A recipe: what a training run draws, hides and weighs. Data, which the loop never asks about.

recipe = parse_recipe("bell:mean=0.4,std=0.15")
t = recipe.times(seed=0, step=0, slots=torch.arange(32), batch_size=32)    # (32,) mask rates
batch = recipe.corrupt(x, t, u, valid=None, mask_id=tokenizer.mask_id)
loss = (recipe.weights(t)[rows] * ce).sum() / n_tokens
"""

import dataclasses
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from unmask.diffusion.masking import MASKINGS, Corrupted
from unmask.diffusion.noise import Stream, uniform_double
from unmask.diffusion.objective import WEIGHTINGS, Importance
from unmask.diffusion.time import (
    TIME_DISTRIBUTIONS,
    Full,
    Mirrored,
    Mixture,
    TimeDistribution,
    TruncatedNormal,
    Uniform,
    deal,
    stratify,
)
from unmask.errors import UserError, unknown
from unmask.spec import build, format_spec, parse_spec


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
    """

    name: str
    time: TimeDistribution
    weight: str = "flat"
    masking: str = "bernoulli"
    stratified: bool = True
    paired: bool = False
    ar_warmup: float = 0.0
    anneal: float = 0.0

    def __post_init__(self) -> None:
        if self.weight not in WEIGHTINGS:
            raise unknown("weight", self.weight, WEIGHTINGS)
        if self.masking not in MASKINGS:
            raise unknown("masking", self.masking, MASKINGS)
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
        if self.causal and (self.ar_warmup or self.anneal):
            raise UserError(f"recipe {self.name!r} is autoregressive: no ar_warmup, no anneal")

    @property
    def causal(self) -> bool:
        """Whether the model must be causal."""
        return MASKINGS[self.masking].causal

    @property
    def shifted(self) -> bool:
        """Whether position i - 1 predicts token i: what both phases of an AR warm-up share."""
        return self.ar_warmup > 0

    @property
    def phase(self) -> str:
        """``causal`` or ``masked``, as the records call it."""
        return "causal" if self.causal else "masked"

    def at(self, step: int, steps: int) -> "Recipe":
        """The recipe in force at a step (counted from 0) of a run of so many steps."""
        if step < self.ar_warmup * steps:
            return _AR_PHASE
        share = 1 - (steps - step) / (self.anneal * steps) if self.anneal else 0.0
        if share <= 0:
            return self
        return replace(self, time=Mixture(Uniform(), self.time, share))

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
            u = stratify(deal(n)[places], u, n)
        t = self.time.quantile(u).float()
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

        A sample's rate is at most the quantile at its stratum's upper end.

        Args:
            slots: (b,) int64, as in `times`.
            batch_size: samples in the global batch.
            length: L, tokens in a block.

        Returns:
            (b,) int64; None where the masking has no bound but L.
        """
        most = MASKINGS[self.masking].most
        if most is None or isinstance(self.time, Mixture):  # whose rates do not rise with u
            return None
        upper = torch.ones(len(slots), dtype=torch.float64)
        if self.stratified:
            upper = (deal(batch_size)[slots] + 1).double() / batch_size
        t = self.time.quantile(upper).float()
        # A float32 above: rounding inside the quantile cannot lift a rate over it.
        t = torch.nextafter(t, torch.full_like(t, 2.0))
        return most(t, length).clamp(max=length)

    def corrupt(
        self, x: Tensor, t: Tensor, u: Tensor, *, valid: Tensor | None, mask_id: int
    ) -> Corrupted:
        """Hide tokens of x (B, L) at rates t (B,) with uniform noise u (B, L)."""
        return MASKINGS[self.masking].corrupt(x, t, u, valid, mask_id)

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
            **{f.name: getattr(self, f.name) for f in dataclasses.fields(_Overrides)},
        }
        return format_spec(self.name, options)


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("standard", Uniform(), weight="1/t"),
        Recipe("iid", Uniform(), weight="1/t", stratified=False),
        Recipe("flat", Uniform()),
        Recipe("bell", TruncatedNormal(mean=0.5, std=0.2)),
        Recipe("fast", TruncatedNormal(mean=0.5, std=0.1)),
        Recipe("bell-weighted", TruncatedNormal(mean=0.5, std=0.2), weight="importance"),
        Recipe("window", Uniform(0.45, 0.55), weight="1/t"),
        Recipe("bandwidth", Uniform(0.3, 0.8), weight="1/t"),
        Recipe("mirror", Uniform(), weight="1/t", paired=True),
        Recipe("bell-pairs", TruncatedNormal(mean=0.5, std=0.1), paired=True),
        Recipe("bell-anneal", TruncatedNormal(mean=0.5, std=0.1), anneal=0.2),
        Recipe("bell-after-ar", TruncatedNormal(mean=0.5, std=0.1), ar_warmup=0.2),
        Recipe("ar", Full(), masking="next-token"),
    )
}
"""The named recipes. ``bell``'s centre and width are a first guess at the paper's, which we do not
know; ``fast`` has those that were fastest where we measured (docs/results.md)."""


@dataclass(frozen=True)
class _Overrides:
    """The options that belong to the recipe itself; every other one is its time distribution's."""

    weight: str
    masking: str
    stratified: bool
    paired: bool
    ar_warmup: float
    anneal: float


_AR_PHASE = Recipe("ar", Full(), masking="shifted-next-token")
_GRAIN = 2.0**-24  # the masks' noise is a multiple of it


def parse_recipe(text: str) -> Recipe:
    """Read ``NAME[:key=value,...]``: a named recipe with any of its parameters replaced.

    Keys are ``time``, ``weight``, ``masking``, ``stratified``, ``paired``, ``ar_warmup``,
    ``anneal``, and the parameters of the time distribution: ``bell:mean=0.4,std=0.15``,
    ``flat:time=beta,alpha=2,beta=3``.

    Raises:
        UserError: an unknown name, key or value; the valid ones are listed.
    """
    name, options = parse_spec(text)
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    recipe = RECIPES[name]
    own = {f.name: f for f in dataclasses.fields(_Overrides)}
    base = dataclasses.asdict(recipe.time)  # type: ignore[call-overload]
    kind = type(recipe.time)
    if (time_name := options.pop("time", None)) is not None:
        if time_name not in TIME_DISTRIBUTIONS:
            raise unknown("time distribution", time_name, TIME_DISTRIBUTIONS)
        if TIME_DISTRIBUTIONS[time_name] is not kind:
            kind, base = TIME_DISTRIBUTIONS[time_name], {}
    parameters = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in options:
        if key not in own and key not in parameters:
            raise unknown(f"option of recipe {name!r}", key, {*own, *parameters, "time"})
    given = {k: v for k, v in options.items() if k in parameters}
    time = build(kind, {**{k: str(v) for k, v in base.items()}, **given}, f"recipe {name!r}")
    current = {k: str(getattr(recipe, k)).lower() for k in own}
    chosen = build(
        _Overrides, {**current, **{k: options[k] for k in own if k in options}}, f"recipe {name!r}"
    )
    return replace(recipe, time=time, **dataclasses.asdict(chosen))


AUTO = "auto"
"""In place of a recipe's first parameter: centre and width are computed from the corpus."""


def is_auto(text: str) -> bool:
    """Whether a recipe is written ``NAME:auto[,key=value,...]``."""
    return text.partition(":")[2].partition(",")[0] == AUTO


def with_bell(text: str, bell: str) -> str:
    """A recipe ``NAME:auto[,...]`` with ``bell``, ``mean=...,std=...``, in place of ``auto``."""
    return text.replace(f":{AUTO}", f":{bell}", 1)
