"""How much information reaches a masked token at mask rate t, and the bell that follows from it.

What is learnable at rate t with weight 1 is, per position, t (H - c*(t)): the loss of a model that
knows only token frequencies, t H, less that of a perfect one, t c*(t). `Bell` has its centre at
the maximum, with R(t) predicted for H - c*(t).

Models of R(t), from the mutual information I(d) of two tokens and the entropy H of one:
- *evidence*: a visible token at distance d removes the share I(d)/H of what is still uncertain,
  independently of the others: R(t) = H (1 - prod over d of (1 - (1-t) I(d)/H)^2). Counts topic,
  which all far tokens share, many times over.
- *nearest*: only the nearest visible token of each side tells anything:
  R(t) = 2 sum over d of (1-t) t^(d-1) I(d).

A third model, which asks a trained network, is `unmask.analyze.locality.reach`'s.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.base.errors import UserError
from unmask.data.information import Locality

_SIGNIFICANT = 3.0  # standard errors; what is below counts as no information
_GRID = torch.arange(1, 1000, dtype=torch.float64) / 1000


@dataclass(frozen=True)
class Bell:
    """A centre and a width for the mask rate."""

    mean: float
    std: float

    @property
    def recipe(self) -> str:
        """As a configuration writes it, to two decimals."""
        return f"bell:mean={self.mean:.2f},std={self.std:.2f}"


def information_by_distance(locality: Locality) -> Tensor:
    """I(d) for d = 1, 2, ... up to the farthest: (D,) float64 nats, 0 where it is not significant.

    A distance that was not measured counts as 0.
    """
    found = torch.zeros(max(locality.distances, default=0), dtype=torch.float64)
    for d, nats, error in zip(locality.distances, locality.nats, locality.stderr, strict=True):
        found[d - 1] = nats if nats > _SIGNIFICANT * error else 0.0
    return found


def evidence(locality: Locality, t: Tensor) -> Tensor:
    """R(t) of the model *evidence*, in nats per masked token, of t's shape (n,)."""
    return locality.entropy * (1 - _unresolved(_shares(locality), t)[0])


def nearest(locality: Locality, t: Tensor) -> Tensor:
    """R(t) of the model *nearest*, in nats per masked token, of t's shape (n,)."""
    information = information_by_distance(locality)
    d = torch.arange(len(information))
    return 2 * ((1 - t[:, None]) * t[:, None] ** d * information).sum(dim=1)


def recommended_bell(locality: Locality) -> Bell:
    """The bell that a corpus asks for, by the model *evidence*.

    Its centre is the maximum of t R(t). Its width is the spread of t that changes the information
    reaching a token as much as the chance of the masks does at that very rate, SD[v | t] / |R'(t)|
    for the information v that one target receives: a narrower bell shows a target much the same,
    a wider one spends tokens on rates that teach less.

    Raises:
        UserError: no distance carries significant information.
    """
    shares = _shares(locality)
    if not bool((shares > 0).any()):
        raise UserError(
            f"no bell can be recommended: no token tells anything about another within "
            f"{len(shares)} tokens (of {locality.tokens:,}); choose one, such as bell"
        )
    mean = _GRID[(_GRID * evidence(locality, _GRID)).argmax()]
    first, second, slope = _unresolved(shares, mean[None])
    return Bell(float(mean), float((second - first**2).clamp(min=0).sqrt() / slope))


def _shares(locality: Locality) -> Tensor:
    return (information_by_distance(locality) / locality.entropy).clamp(0, 1)


def _unresolved(shares: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and mean square of the unresolved share U of a target, and the mean's derivative.

    U = product over both sides and all d of (1 - share_d where the token is visible).
    """
    visible = 1 - t[:, None]
    first = (1 - visible * shares).prod(dim=1) ** 2
    second = (1 - visible * (2 * shares - shares**2)).prod(dim=1) ** 2
    slope = first * 2 * (shares / (1 - visible * shares)).sum(dim=1)
    return first, second, slope
