"""Mean and variance of vectors drawn in two levels, from inner products alone, without bias.

Vectors g_bm, of m masks for each of n blocks: blocks are independent, and so are the masks given
their block. Of interest are the squared norm of the mean, |E g|^2, and the two parts of the total
variance E|g - E g|^2: over masks, E|g - E[g|block]|^2, and over blocks, E|E[g|block] - E g|^2.

The squared norm of the sample mean would overstate |E g|^2 by the variance over n. Products of
different blocks' means have no such bias:

    |E g|^2  ~  mean over b != b' of  s_b . s_b' / m^2,      s_b the sum of block b's m vectors
    masks    ~  sum over b of (sum over m of |g_bm|^2 - |s_b|^2 / m) / (n (m - 1))
    blocks   ~  (variance of the s_b / m over the n blocks)  -  masks / m

(the nested analysis of variance by the method of moments; the last can come out negative).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """Estimates of the moments; each may be negative by chance where the truth is near 0.

    Attributes:
        squared_mean: |E g|^2.
        mask_variance: over masks (and mask rates within a bin) for a given block.
        data_variance: over blocks, of their mean over masks.
    """

    squared_mean: float
    mask_variance: float
    data_variance: float

    @property
    def variance(self) -> float:
        """Of a single vector, both parts."""
        return self.mask_variance + self.data_variance

    @property
    def snr(self) -> float:
        """Signal-to-noise ratio of one vector, |E g|^2 over its variance.

        The mean of B vectors of B blocks has B times this: 1/snr is the batch at which signal and
        noise are equal (the "simple noise scale" of McCandlish et al. 2018, arXiv 1812.06162).
        """
        return self.squared_mean / self.variance if self.variance > 0 else float("nan")


def nested_moments(products: Tensor, squares: Tensor, masks: int) -> Moments:
    """Estimate the moments.

    Args:
        products: (n, n) inner products of the blocks' sums, s_b . s_b'.
        squares: (n,) sum over a block's vectors of their squared norm.
        masks: m, vectors in each block.

    Raises:
        ValueError: fewer than two blocks or two masks, which have no variance.
    """
    n = len(squares)
    if n < 2 or masks < 2:
        raise ValueError(f"variances need two blocks and two masks, not {n} and {masks}")
    products = products.double()
    own, everything = products.diagonal().sum(), products.sum()
    return _from_sums(n, masks, float(everything), float(own), float(squares.double().sum()))


def _from_sums(n: int, masks: int, everything: float, own: float, squares: float) -> Moments:
    """Moments from the sum of all inner products, of the diagonal ones, and of the squares."""
    within = (squares - own / masks) / (n * (masks - 1))
    between = (own - everything / n) / (masks**2 * (n - 1))
    squared_mean = (everything - own) / (n * (n - 1) * masks**2)
    return Moments(squared_mean, within, between - within / masks)


def jackknife(
    of: Callable[[Moments], float], products: Tensor, squares: Tensor, masks: int
) -> float:
    """Standard error over blocks of a function of the moments, leaving out a block at a time.

    Arguments as in `nested_moments`; needs at least three blocks.
    """
    products, squares = products.double(), squares.double()
    n, diagonal = len(squares), products.diagonal()
    everything = products.sum() - 2 * products.sum(dim=1) + diagonal
    rest = zip(everything, diagonal.sum() - diagonal, squares.sum() - squares, strict=True)
    values = [of(_from_sums(n - 1, masks, float(a), float(b), float(c))) for a, b, c in rest]
    x = torch.tensor(values, dtype=torch.float64)
    return float(((n - 1) / n * ((x - x.mean()) ** 2).sum()).sqrt())
