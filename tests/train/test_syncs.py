"""What a step on a device may not do: wait for a number, or for a shape."""

import pytest
import torch
from test_batch import MASK, blocks
from torch.utils._python_dispatch import TorchDispatchMode

from unmask.model import ModelConfig, Transformer
from unmask.recipe import parse_recipe
from unmask.train.batch import batch_loss, draw_batch
from unmask.train.config import TrainConfig
from unmask.train.optim import build_optimizers
from unmask.train.recent import Recent

CPU = torch.device("cpu")


class Waits(TorchDispatchMode):
    """Notes the operations for whose result the host would wait for a device."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name()
        if name in ("aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero"):
            self.seen.add(name)
        return function(*args, **(kwargs or {}))


def step_of(recipe, optimizer):
    """Everything of a step after its batch is drawn, as the loop does it; what it waited for."""
    model = Transformer(ModelConfig(layers=1, width=16, heads=2), MASK + 1, (MASK,))
    optimizers = build_optimizers(model, TrainConfig(optimizer=optimizer))
    recent = Recent(CPU, 0.0)
    batch = draw_batch(recipe, blocks(False), seed=0, step=0, batch_size=16, device=CPU)
    most = recipe.most_predicted(16, batch.x.shape[1])  # which draw_batch leaves out on a CPU
    batch = type(batch)(batch.x, batch.valid, batch.t, batch.u, batch.n_tokens, most)
    recipe.weights(batch.t)  # its constant is computed once
    with Waits() as waits:
        loss = batch_loss(model, model.head, recipe, batch, MASK)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for each in optimizers:
            each.step()
            each.zero_grad()
        recent.add(0, loss.detach(), norm, batch.n_tokens)
    return waits.seen


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_no_step_waits_for_a_number_and_with_a_fixed_count_none_for_a_shape(optimizer):
    assert step_of(parse_recipe("bell:masking=fixed-count"), optimizer) == set()
    assert step_of(parse_recipe("bell"), optimizer) == {"aten::nonzero"}


@pytest.mark.parametrize("spec", ["fast:masking=fixed-count", "standard:masking=fixed-count", "ar"])
@pytest.mark.parametrize("stratified", ["true", "false"])
@pytest.mark.parametrize("length", [7, 128])
def test_the_bound_holds_at_every_step_and_is_close(spec, stratified, length):
    recipe = parse_recipe(f"{spec}{',' if ':' in spec else ':'}stratified={stratified}")
    size = 32
    most = recipe.most_predicted(size, length)
    x, u = torch.zeros(size, length, dtype=torch.int64), torch.rand(size, length)
    for step in range(100):
        t = recipe.times(seed=0, step=step, slots=torch.arange(size), batch_size=size)
        count = int(recipe.corrupt(x, t, u, valid=None, mask_id=1).predicted.sum())
        assert count <= most
        if stratified == "true":
            assert most - count <= length + size
    assert most <= size * length


def test_without_a_fixed_count_there_is_no_bound():
    assert parse_recipe("bell").most_predicted(32, 128) is None


@pytest.mark.slow
def test_with_a_bound_the_whole_loss_is_compiled_once():
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    recipe = parse_recipe("bell:masking=fixed-count")
    model = Transformer(ModelConfig(layers=1, width=16, heads=2), MASK + 1, (MASK,))
    most = recipe.most_predicted(16, 12)
    compiled = torch.compile(lambda batch: batch_loss(model, model.head, recipe, batch, MASK))
    for step in range(5):
        batch = draw_batch(recipe, blocks(False), seed=0, step=step, batch_size=16, device=CPU)
        batch = type(batch)(batch.x, batch.valid, batch.t, batch.u, batch.n_tokens, most)
        compiled(batch).backward()
        if step == 0:
            first = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert first > 0
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == first
