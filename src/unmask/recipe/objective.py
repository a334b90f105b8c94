"""What a sample is trained on: a time distribution, a masking and a weight, or the next token."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from unmask.base.errors import UserError, unknown
from unmask.base.spec import build
from unmask.diffusion.adaptive import EXPLORED, FITS, RateStatistics
from unmask.diffusion.masking import MASKINGS, Bernoulli, Everything, Masking
from unmask.diffusion.objective import WEIGHTINGS
from unmask.diffusion.time import (
    TIME_DISTRIBUTIONS,
    Mirrored,
    Mixture,
    TimeDistribution,
    Uniform,
)

_INDEPENDENT = Bernoulli()

Observers = Mapping[str, RateStatistics]
"""What watches the training steps, by the name of its file in a checkpoint."""


class Objective(ABC):
    """How samples are drawn, hidden and weighed.

    Attributes:
        causal: whether the network must not look ahead.
        masking: which positions are predicted.
        stratified: whether the rates of a global batch have one in each of its equal strata.
        paired: whether samples 2k and 2k + 1 are one sequence under a mask and its complement.
    """

    causal: ClassVar[bool]
    masking: Masking
    stratified: bool = True
    paired: bool = False

    @abstractmethod
    def rates(self, u: Tensor) -> Tensor:
        """Mask rates (b,) float32 in (0, 1] for uniform u (b,) float64.

        Of a pair they are the rate of its first half; the second's is the rest to 1.
        """

    @abstractmethod
    def weights(self, t: Tensor) -> Tensor:
        """Weight of each sample's summed cross-entropy, w(t) / E_p[w(t) t]; t's shape and dtype.

        The constant divisor is our choice (the papers do not say): with it every recipe's loss
        starts at log V, and a gradient-clipping threshold means the same for all.
        """

    @abstractmethod
    def most_predicted(self, u: Tensor, length: int) -> Tensor | None:
        """The most positions predicted in samples of ``length`` tokens with draws up to u (b,).

        Returns:
            (b,) int64; None where nothing but the length bounds them.
        """

    @abstractmethod
    def most_visible(self, u: Tensor, length: int) -> Tensor | None:
        """The most positions left visible in such samples with draws from u (b,) on.

        Returns:
            (b,) int64; None where nothing but the length bounds them.
        """

    def hide(self, x: Tensor, mask: Tensor, mask_id: int) -> Tensor:
        """What the network reads of tokens x (b, L): the causal one need not be kept from any."""
        return x if self.causal else x.masked_fill(mask, mask_id)

    def density(self, t: Tensor) -> Tensor | None:
        """Density of the rates at t, complements among them; None where none are drawn."""
        return None

    def observers(self, device: torch.device | None) -> dict[str, RateStatistics]:
        """What has to watch the training steps, before the first."""
        return {}

    def at(self, step: int, observers: Observers) -> "Objective":
        """The objective of a step, by what the observers have seen."""
        return self

    def options(self) -> dict[str, Any]:
        """Its parameters, by the keys of a recipe's text."""
        return {}

    def changed(self, options: Mapping[str, str], recipe: str) -> "Objective":
        """The objective with some parameters replaced by text.

        Raises:
            UserError: an unknown key or a bad value.
        """
        if options:
            raise UserError(
                f"{recipe} is autoregressive: it predicts every token, draws no mask rates, and "
                f"has no option {next(iter(options))!r}"
            )
        return self


@dataclass(frozen=True)
class NextToken(Objective):
    """Every token is predicted from those before it, in an autoregressive network.

    That puts a start symbol before its inputs, so that the first token is predicted too.
    """

    causal: ClassVar[bool] = True
    masking: Masking = field(default=Everything(), init=False)

    def rates(self, u: Tensor) -> Tensor:
        """1, whatever u is."""
        return torch.ones_like(u, dtype=torch.float32)

    def weights(self, t: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(t)

    def most_predicted(self, u: Tensor, length: int) -> Tensor | None:
        """All of them."""
        return self.masking.most(u, length)

    def most_visible(self, u: Tensor, length: int) -> Tensor | None:
        """None that is not predicted."""
        return self.masking.most_visible(u, length)


@dataclass(frozen=True)
class Denoising(Objective):
    """Tokens hidden at random rates are predicted from the others.

    Attributes:
        time: distribution of the mask rate.
        weight: a name in `WEIGHTINGS`.
        fit: a name in `FITS`: what ``time`` becomes of what the training steps meet.
    """

    causal: ClassVar[bool] = False

    time: TimeDistribution
    masking: Masking = _INDEPENDENT
    weight: str = "flat"
    stratified: bool = True
    paired: bool = False
    fit: str = "none"

    def __post_init__(self) -> None:
        if self.weight not in WEIGHTINGS:
            raise unknown("weight", self.weight, WEIGHTINGS)
        if self.fit not in FITS:
            raise unknown("fit", self.fit, FITS)
        if self.paired and self.masking.refines:
            raise UserError("paired=true needs a masking that does not ask the model")

    @cached_property
    def _drawn(self) -> TimeDistribution:
        """The distribution of all rates of a batch, those of complements among them."""
        return Mixture(self.time, Mirrored(self.time), 0.5) if self.paired else self.time

    @cached_property
    def _normaliser(self) -> float:
        return WEIGHTINGS[self.weight].mean(self._drawn)

    def rates(self, u: Tensor) -> Tensor:
        """Draws of the time distribution; of pairs never 0 or 1, for a rate of 0 has no weight."""
        t = self.time.draw(u).float()
        return t.clamp(_LEAST_OF_PAIR, 1 - _LEAST_OF_PAIR) if self.paired else t

    def weights(self, t: Tensor) -> Tensor:
        """By the weighting."""
        return WEIGHTINGS[self.weight].weight(t, self._drawn) / self._normaliser

    def most_predicted(self, u: Tensor, length: int) -> Tensor | None:
        """By the masking, at the highest rate that is reached."""
        t = self.time.at_most(u).float()
        # A float32 above: rounding inside the quantile cannot lift a rate over it.
        t = torch.nextafter(t, torch.full_like(t, 2.0))
        most = None if self.paired else self.masking.most(t, length)
        return None if most is None else most.clamp(max=length)

    def most_visible(self, u: Tensor, length: int) -> Tensor | None:
        """By the masking, at the lowest rate that is reached."""
        t = self.time.at_least(u).float()
        t = torch.nextafter(t, torch.zeros_like(t))
        return None if self.paired else self.masking.most_visible(t, length)

    def density(self, t: Tensor) -> Tensor:
        """Of the time distribution."""
        return self._drawn.pdf(t)

    def observers(self, device: torch.device | None) -> dict[str, RateStatistics]:
        """``rates``, where they are fitted."""
        return {} if self.fit == "none" else {"rates": RateStatistics(device)}

    def at(self, step: int, observers: Observers) -> "Denoising":
        """With fitted rates, of which a share stays uniform: the fit sees, and leaves out, none."""
        if self.fit == "none":
            return self
        fit = FITS[self.fit](observers["rates"].at(step)) if "rates" in observers else None
        return replace(self, time=Mixture(Uniform(), fit or self.time, EXPLORED))

    def options(self) -> dict[str, Any]:
        """Those of the time distribution, those of the masking, its own."""
        options: dict[str, Any] = {}
        for key, registry in _PARTS.items():
            part = getattr(self, key)
            options[key] = next(name for name, kind in registry.items() if kind is type(part))
            options |= dataclasses.asdict(part)
        return options | {key: getattr(self, key) for key in _OWN}

    def changed(self, options: Mapping[str, str], recipe: str) -> "Denoising":
        """Another time distribution or masking begins from its own defaults."""
        left = dict(options)
        values: dict[str, Any] = {key: left.pop(key, getattr(self, key)) for key in _OWN}
        valid = [*_PARTS, *_OWN, *COMPANIONS, "mix"]
        for key, registry in _PARTS.items():
            part = getattr(self, key)
            kind, given = type(part), dataclasses.asdict(part)
            name = left.pop(key, None)
            if name is not None and name not in registry:
                raise unknown(key, name, registry)
            if name is not None and registry[name] is not kind:
                kind, given = registry[name], {}
            names = [f.name for f in dataclasses.fields(kind)]
            valid += names
            given |= {name: left.pop(name) for name in names if name in left}
            values[key] = build(kind, given, recipe)
        if left:
            raise unknown(f"option of {recipe}", next(iter(left)), valid)
        return build(Denoising, values, recipe)


_PARTS: dict[str, Mapping[str, Any]] = {"time": TIME_DISTRIBUTIONS, "masking": MASKINGS}
_OWN = ("weight", "stratified", "paired", "fit")
_LEAST_OF_PAIR = 2.0**-24


def _uniform(main: Denoising) -> Denoising:
    return replace(main, time=Uniform(), fit="none")


def _standard(main: Denoising) -> Denoising:
    return replace(main, time=Uniform(), masking=_INDEPENDENT, weight="1/t", fit="none")


COMPANIONS: dict[str, Callable[[Denoising], Objective]] = {
    "next-token": lambda _: NextToken(),
    "uniform": _uniform,
    "standard": _standard,
}
"""Objectives that may take a share of the samples from a recipe's main one, which they are made
of: the next token, the main one at uniform rates, the bound itself. To add one, add an entry."""
