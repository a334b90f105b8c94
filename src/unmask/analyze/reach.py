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
- *profile*: from what the k-th neighbours on both sides add to a trained model, given the nearer
  ones: the k-th visible token, at distance d_k, adds that times I(d_k)/I(k).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.analyze.mutual import Locality
from unmask.analyze.window import WindowProfile, information_within
from unmask.errors import UserError

_SIGNIFICANT = 3.0  # standard errors; what is below counts as no information
_GRID = torch.arange(1, 1000, dtype=torch.float64) / 1000


@dataclass(frozen=True)
class Bell:
    """A centre and a width for the mask rate."""

    mean: float
    std: float

    @property
    def recipe(self) -> str:
        """As ``--recipe`` takes it, to two decimals."""
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


def profile(locality: Locality, window: WindowProfile, t: Tensor) -> Tensor:
    """R(t) of the model *profile*, in nats per masked token, of t's shape (n,)."""
    adds = _added_by_neighbour(window)
    information = information_by_distance(locality)
    # decreasing, so that a ratio means "at that distance or beyond"
    decay = information.flip(0).cummax(dim=0).values.flip(0).clamp(min=1e-9)
    reach = len(adds)
    decay = torch.cat([decay, decay[-1:].expand(max(0, reach - len(decay)))])[:reach]
    total = torch.zeros_like(t)
    k_to_d = torch.zeros(len(t), reach, dtype=torch.float64)  # P(k-th visible token is at d)
    k_to_d[:] = (1 - t[:, None]) * t[:, None] ** torch.arange(reach)
    for k in range(reach):
        total += adds[k] * (k_to_d * decay).sum(dim=1) / decay[k]
        k_to_d = _next_visible(k_to_d, t)
    return total


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


def measured_bell(
    c_t: Sequence[float | None], entropy: float, window: WindowProfile
) -> Bell | None:
    """The bell that a trained model's own c(t) asks for.

    Its centre is the maximum of t (H - c(t)), a parabola through the best of the bins and its
    neighbours. Its width is `recommended_bell`'s, where each token adds to what is known what its
    ring of the window profile did: sqrt(t (1-t) sum w^2) / sum w.

    Returns:
        None where c(t) is not known in all bins, or is nowhere below H.
    """
    if any(c is None for c in c_t):
        return None
    n = len(c_t)
    t = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    signal = t * (entropy - torch.tensor([c for c in c_t if c is not None], dtype=torch.float64))
    best = int(signal.argmax())
    adds = _added_by_neighbour(window)
    if signal[best] <= 0 or float(adds.sum()) <= 0:
        return None
    mean = float(t[best])
    if 0 < best < n - 1:
        low, top, high = signal[best - 1 : best + 2].tolist()
        mean += (low - high) / (2 * (low - 2 * top + high)) / n
    # Each k is two tokens, one on either side, with half of what both add.
    spread = (2 * (adds / 2) ** 2).sum().sqrt() / adds.sum()
    return Bell(mean, float((mean * (1 - mean)) ** 0.5 * spread))


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


def _added_by_neighbour(window: WindowProfile) -> Tensor:
    """What the k-th neighbours of both sides add, k = 1..L: rings shared evenly, none negative."""
    gain = information_within(window, "both")[0]
    envelope = gain.clamp(min=0).cummax(dim=0).values
    adds: list[float] = []
    for a, b, more in zip(window.radii, window.radii[1:], envelope.diff().tolist(), strict=False):
        adds += [more / (b - a)] * (b - a)
    return torch.tensor(adds, dtype=torch.float64)


def _next_visible(here: Tensor, t: Tensor) -> Tensor:
    """From where the k-th visible token is to where the next one is: (n, D) chances."""
    following = torch.zeros_like(here)
    waiting = torch.zeros_like(t)  # the k-th has passed and the next one has not come
    for d in range(1, here.shape[1]):
        waiting = waiting * t + here[:, d - 1]
        following[:, d] = waiting * (1 - t)
    return following
