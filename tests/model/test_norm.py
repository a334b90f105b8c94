"""RMS normalisation: torch's values and gradients, in every precision and shape."""

import pytest
import torch
import torch.nn.functional as F

from unmask.model.norm import RMSNorm


def norm(width, dtype=torch.float32):
    module = RMSNorm(width).to(dtype)
    with torch.no_grad():
        module.weight.copy_(torch.linspace(0.5, 2, width))
    return module


@pytest.mark.parametrize("scale", [0.0, 1e-4, 1.0, 1e4])
def test_gradients_are_right_in_float64(scale):
    module = norm(6, torch.float64)
    generator = torch.Generator().manual_seed(0)
    x = scale * torch.randn(2, 3, 6, dtype=torch.float64, generator=generator)

    def apply(x, weight):
        return torch.func.functional_call(module, {"weight": weight}, (x,))

    step = 1e-9 if scale < 1e-2 else 1e-6
    inputs = (x.requires_grad_(), module.weight.detach().clone().requires_grad_())
    assert torch.autograd.gradcheck(apply, inputs, eps=step, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(5, 16), (2, 7, 3, 8), (1, 1, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_and_gradients_are_those_of_torch(shape, dtype):
    module = norm(shape[-1])
    generator = torch.Generator().manual_seed(1)
    x, d_out = (torch.randn(shape, generator=generator).to(dtype) for _ in range(2))
    found = []
    for function in (module, lambda x: F.rms_norm(x.float(), shape[-1:], module.weight, 1e-6)):
        module.weight.grad = None
        leaf = x.clone().requires_grad_()
        out = function(leaf)
        out.backward(d_out.float())
        found.append((out.detach(), leaf.grad.float(), module.weight.grad))
    assert found[0][0].dtype == torch.float32
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5 if dtype == torch.float32 else 1e-2, atol=1e-5)
