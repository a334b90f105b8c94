"""How much information reaches a masked token at mask rate t, as a trained model uses it.

The model *profile* of R(t) beside those of `unmask.recipe.auto`: from what the k-th neighbours on
both sides add to a trained model, given the nearer ones: the k-th visible token, at distance d_k,
adds that times I(d_k)/I(k).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from unmask.analyze.locality.window import WindowProfile, information_within
from unmask.data.information import Locality
from unmask.recipe.auto import Bell, information_by_distance


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
