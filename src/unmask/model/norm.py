"""RMS normalisation, with kernels fit for a CPU, for which torch has no fused one."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class RMSNorm(nn.RMSNorm):
    """RMS normalisation of the last dimension, in the precision of its weight."""

    eps: float

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (..., width)."""
        # Under autocast x may be bfloat16 while the weight is not: a mix without a fused kernel.
        x = x.to(self.weight.dtype)
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(x)
        return _InFewPasses.apply(x, self.weight, self.eps)  # type: ignore[no-untyped-call,no-any-return]


class _InFewPasses(torch.autograd.Function):
    """n w with n = x / rms(x): less than half the time of torch's composition on a CPU.

    For n = r x the gradient with respect to x is r (g - n mean(g n)), g that with respect to n.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        r = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        n = x * r
        ctx.save_for_backward(n, r, weight)
        out: Tensor = n * weight
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, Tensor, None]:
        n, r, weight = ctx.saved_tensors
        product = d_out * n
        d_weight = product.flatten(0, -2).sum(dim=0)
        mean = product.mul_(weight).mean(dim=-1, keepdim=True)
        return (d_out * weight).addcmul_(n, mean, value=-1).mul_(r), d_weight, None
