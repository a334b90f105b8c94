"""The chunked projection and cross-entropy against the plain one in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unmask.diffusion.linear_cross_entropy import cross_entropies, weighted_cross_entropy_sum

V, D = 97, 16


def problem(rows, dtype=torch.float32):
    generator = torch.Generator().manual_seed(rows)
    hidden = torch.randn(rows, D, generator=generator, dtype=torch.float64)
    head = nn.Linear(D, V, dtype=torch.float64)
    with torch.no_grad():
        head.weight.copy_(2 * torch.randn(V, D, generator=generator, dtype=torch.float64))
        head.bias.zero_()
        head.bias[-1] = -torch.inf
    head.bias.requires_grad_(False)
    targets = torch.randint(V - 1, (rows,), generator=generator)
    weights = torch.rand(rows, generator=generator, dtype=torch.float64)
    return hidden.to(dtype).requires_grad_(), head.to(dtype), targets, weights.to(dtype)


def reference(rows):
    hidden, head, targets, weights = problem(rows, torch.float64)
    ce = F.cross_entropy(head(hidden), targets, reduction="none")
    (3 * (weights * ce).sum()).backward()
    return ce.detach(), (weights * ce).sum().detach(), hidden.grad, head.weight.grad


# 255, 256 and 257 stand around the edge of a chunk; 700 is three of them, the last one short.
@pytest.mark.parametrize("rows", [1, 255, 256, 257, 700])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_value_and_gradients_are_those_of_the_plain_formula(rows, dtype):
    ce, total, d_hidden, d_weight = reference(rows)
    hidden, head, targets, weights = problem(rows, dtype)
    loss = weighted_cross_entropy_sum(hidden, targets, weights, head)[0]
    (3 * loss).backward()  # the gradient that comes from above counts
    # A float32 logit of 20 is known to 1e-6, and so is a probability, relative to itself.
    close = (
        {"rtol": 1e-12, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 5e-5}
    )
    torch.testing.assert_close(cross_entropies(hidden, targets, head), ce.to(dtype), **close)
    torch.testing.assert_close(loss.detach(), total.to(dtype), **close)
    torch.testing.assert_close(hidden.grad, d_hidden.to(dtype), **close)
    torch.testing.assert_close(head.weight.grad, d_weight.to(dtype), **close)


def test_finite_differences_agree():
    hidden, head, targets, weights = problem(5, torch.float64)
    assert torch.autograd.gradcheck(
        lambda h, w: weighted_cross_entropy_sum(h, targets, weights, _WithWeight(w, head.bias))[0],
        (hidden, head.weight),
    )


class _WithWeight:
    def __init__(self, weight, bias):
        self.weight, self.bias = weight, bias


def test_only_the_wanted_gradient_is_computed():
    hidden, head, targets, weights = problem(300)
    head.weight.requires_grad_(False)
    weighted_cross_entropy_sum(hidden, targets, weights, head)[0].backward()
    assert hidden.grad is not None and head.weight.grad is None
    hidden, head, targets, weights = problem(300)
    weighted_cross_entropy_sum(hidden.detach(), targets, weights, head)[0].backward()
    assert head.weight.grad is not None


def test_a_gradient_that_is_not_computed_is_refused():
    hidden, head, targets, weights = problem(3)
    with pytest.raises(ValueError, match="bias and the weights"):
        weighted_cross_entropy_sum(hidden, targets, weights.requires_grad_(), head)
    with pytest.raises(ValueError, match="bias and the weights"):
        weighted_cross_entropy_sum(hidden, targets, weights.detach(), nn.Linear(D, V))


def test_logits_beyond_the_range_of_exp_are_fine():
    hidden, head, targets, weights = problem(20)
    loss = weighted_cross_entropy_sum(1000 * hidden, targets, weights, head)[0]
    ce = F.cross_entropy(head(1000 * hidden), targets, reduction="none")
    torch.testing.assert_close(loss, (weights * ce).sum())


def test_under_autocast_products_are_bfloat16_and_the_softmax_is_not():
    ce, total, d_hidden, d_weight = reference(700)
    hidden, head, targets, weights = problem(700)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = weighted_cross_entropy_sum(hidden, targets, weights, head)[0]
        found = cross_entropies(hidden, targets, head)
    (3 * loss).backward()
    assert loss.dtype == found.dtype == hidden.grad.dtype == torch.float32
    assert not torch.equal(found, found.bfloat16().float())
    torch.testing.assert_close(found, ce.float(), rtol=2e-2, atol=5e-2)
    torch.testing.assert_close(loss.detach(), total.float(), rtol=1e-3, atol=0)
    for got, wanted in ((hidden.grad, d_hidden), (head.weight.grad, d_weight)):
        error = (got - wanted).norm() / wanted.norm()
        assert 1e-6 < error < 2e-2


def test_no_tensor_of_all_logits_is_ever_made():
    hidden, head, targets, weights = problem(2000)
    seen = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                seen.append(out.numel())
            return out

    with Watch():
        weighted_cross_entropy_sum(hidden, targets, weights, head)[0].backward()
    assert max(seen) <= max(256 * V, 2000 * D, V * D)
