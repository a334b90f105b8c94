"""The schedule's shape, who steps which parameter, and state that survives bit for bit."""

import pytest
import torch

from unmask.model.config import ModelConfig
from unmask.model.transformer import Transformer
from unmask.train.config import TrainConfig
from unmask.train.optim import (
    build_optimizers,
    learning_rate,
    optimizer_tensors,
    restore_optimizers,
    set_learning_rate,
)


def rates(**changes: object) -> list[float]:
    config = TrainConfig(steps=100, warmup_steps=10, learning_rate=1.0, **changes)
    return [learning_rate(step, config) for step in range(100)]


@pytest.mark.parametrize("schedule", ["constant", "cosine", "wsd"])
def test_every_schedule_warms_up_linearly_to_the_peak(schedule: str) -> None:
    values = rates(schedule=schedule)
    assert values[:10] == pytest.approx([(k + 1) / 10 for k in range(10)])
    assert max(values) == pytest.approx(1.0)


def test_shapes_after_warm_up() -> None:
    assert set(rates()[10:]) == {1.0}
    cosine = rates(schedule="cosine")
    assert cosine[55] == pytest.approx(0.5) and 0 < cosine[99] < 0.001
    wsd = rates(schedule="wsd", decay_fraction=0.2)
    assert set(wsd[10:80]) == {1.0}
    assert wsd[80:] == pytest.approx([(100 - step) / 20 for step in range(80, 100)])


def model() -> Transformer:
    return Transformer(ModelConfig(layers=2, width=16, heads=2), 11, (10,))


def step(network: Transformer, optimizers: list[torch.optim.Optimizer], seed: int) -> None:
    x = torch.randint(0, 10, (4, 8), generator=torch.Generator().manual_seed(seed))
    network.head(network(x))[..., :10].logsumexp(-1).sum().backward()
    set_learning_rate(optimizers, 0.01)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_every_parameter_is_stepped_by_exactly_one_optimiser(name: str) -> None:
    network = model()
    optimizers = build_optimizers(network, TrainConfig(optimizer=name))
    owned = [id(p) for o in optimizers for g in o.param_groups for p in g["params"]]
    assert sorted(owned) == sorted(id(p) for p in network.parameters())
    kinds = {type(o).__name__ for o in optimizers}
    assert kinds == ({"AdamW"} if name == "adamw" else {"AdamW", "Muon"})
    if name == "muon":
        (muon,) = (o for o in optimizers if type(o).__name__ == "Muon")
        matrices = {id(p) for p in network.matrix_parameters()}
        assert {id(p) for g in muon.param_groups for p in g["params"]} == matrices


def test_norm_weights_are_not_decayed() -> None:
    (adamw,) = build_optimizers(model(), TrainConfig(optimizer="adamw", weight_decay=0.1))
    for group in adamw.param_groups:
        assert all((p.ndim >= 2) == (group["weight_decay"] == 0.1) for p in group["params"])


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_restored_state_steps_on_bit_for_bit(name: str) -> None:
    config = TrainConfig(optimizer=name, weight_decay=0.01)
    one = model()
    optimizers = build_optimizers(one, config)
    for seed in range(3):
        step(one, optimizers, seed)
    other = model()
    other.load_state_dict(one.state_dict())
    restored = build_optimizers(other, config)
    kept = {k: v.clone() for k, v in optimizer_tensors(optimizers, one).items()}
    restore_optimizers(restored, other, kept)
    for seed in range(3, 6):
        step(one, optimizers, seed)
        step(other, restored, seed)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
