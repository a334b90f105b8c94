"""Cross-entropy on the predicted positions alone equals the one over all logits."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch._dynamo.testing import CompileCounter

from unmask.diffusion.objective import predicted_cross_entropy, predicted_loss
from unmask.recipe.parse import parse_recipe

B, L, D, V = 6, 9, 16, 23


def problem(rate=0.4):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(B, L, D, generator=generator)
    head = torch.randn(V, D, generator=generator) / 2
    targets = torch.randint(V, (B, L), generator=generator)
    predicted = torch.rand(B, L, generator=generator) < rate
    t = 0.05 + 0.95 * torch.rand(B, generator=generator)
    return hidden, head, targets, predicted, t


def projection(weight):
    return SimpleNamespace(weight=weight, bias=None)


def leaves(*tensors):
    return [x.clone().requires_grad_() for x in tensors]


@pytest.mark.parametrize("spec", ["standard", "flat", "bell", "bell-weighted"])
def test_loss_and_gradients_equal_those_of_full_logits(spec):
    hidden, head, targets, predicted, t = problem()
    weights = parse_recipe(spec).main.weights(t)

    h, w = leaves(hidden, head)
    loss = predicted_loss(h, targets, predicted, weights / (B * L), projection(w))
    loss.backward()

    full_h, full_w = leaves(hidden.double(), head.double())
    nats = F.cross_entropy((full_h @ full_w.T).transpose(1, 2), targets, reduction="none")
    full = (weights.double()[:, None] * nats * predicted).sum() / (B * L)
    full.backward()

    assert loss.item() == pytest.approx(full.item(), rel=1e-6)
    torch.testing.assert_close(h.grad.double(), full_h.grad, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(w.grad.double(), full_w.grad, rtol=1e-4, atol=1e-7)
    assert (h.grad[~predicted] == 0).all()


@pytest.mark.parametrize("superfluous", [0, 1, 17])
def test_a_budget_changes_neither_loss_nor_gradients(superfluous):
    hidden, head, targets, predicted, t = problem()
    budget = int(predicted.sum()) + superfluous
    found = []
    for limit in (None, budget):
        h, w = leaves(hidden, head)
        loss = predicted_loss(h, targets, predicted, t, projection(w), limit)
        loss.backward()
        found.append((loss.detach(), h.grad, w.grad))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)
    assert (found[1][1][~predicted] == 0).all()


def test_a_budget_that_is_too_small_is_an_error():
    hidden, head, targets, predicted, t = problem()
    budget = int(predicted.sum()) - 1
    with pytest.raises(RuntimeError, match=f"more predicted positions than {budget}"):
        predicted_loss(hidden, targets, predicted, t, projection(head), budget)


@pytest.mark.slow
def test_within_a_budget_compiled_loss_and_network_see_one_shape():
    """The same graphs whatever the masks; without it their number is a new shape each time."""
    network = torch.nn.Linear(D, D, bias=False)
    _, head, targets, _, t = problem()

    def loss(hidden, predicted, budget):
        return predicted_loss(network(hidden), targets, predicted, t, projection(head), budget)

    def compilations(budget):
        torch._dynamo.reset()
        counter = CompileCounter()
        compiled = torch.compile(loss, backend=counter, dynamic=False)
        seen = []
        for masked in (20, 25, 30):
            hidden, _, _, predicted, _ = problem(masked / (B * L))
            compiled(hidden, predicted, budget).backward()
            seen.append(counter.frame_count)
        return seen

    bounded, counted = compilations(B * L), compilations(None)
    assert bounded[0] == bounded[-1] > 0
    assert counted[-1] > counted[0]


def test_each_cross_entropy_comes_with_its_row():
    hidden, head, targets, predicted, _ = problem()
    ce, rows = predicted_cross_entropy(hidden, targets, predicted, projection(head))
    sums = torch.zeros(B).index_add(0, rows, ce)
    nats = F.cross_entropy((hidden @ head.T).transpose(1, 2), targets, reduction="none")
    torch.testing.assert_close(sums, (nats * predicted).sum(dim=1))
    assert torch.equal(rows, predicted.nonzero()[:, 0])


def test_nothing_predicted_is_a_loss_of_zero():
    hidden, head, targets, _, t = problem()
    h, w = leaves(hidden, head)
    none = torch.zeros(B, L, dtype=torch.bool)
    ce, rows = predicted_cross_entropy(h, targets, none, projection(w))
    assert ce.shape == rows.shape == (0,)
    loss = predicted_loss(h, targets, none, parse_recipe("standard").main.weights(t), projection(w))
    loss.backward()
    assert loss.item() == 0
    assert (h.grad == 0).all() and (w.grad == 0).all()


def test_bfloat16_hidden_states_give_float32_losses():
    hidden, head, targets, predicted, _ = problem()
    low = hidden.bfloat16(), head.bfloat16()
    ce, _ = predicted_cross_entropy(low[0], targets, predicted, projection(low[1]))
    logits = (low[0] @ low[1].T).float()  # rounded once, by the projection alone
    nats = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    assert ce.dtype == torch.float32
    torch.testing.assert_close(ce, nats[predicted], rtol=1e-2, atol=2e-2)
    coarse = ce.bfloat16().float()
    assert not torch.equal(ce, coarse)  # the softmax itself was not in bfloat16
