"""The schedule's shape, who steps which parameter, and state that survives bit for bit."""

import sys

import pytest
import torch

from unmask.base.errors import UserError
from unmask.model.config import ModelConfig
from unmask.model.transformer import Transformer
from unmask.train.config import TrainConfig
from unmask.train.optim import (
    OPTIMIZERS,
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


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_parameter_is_stepped_by_exactly_one_optimiser(name: str) -> None:
    network = model()
    optimizers = build_optimizers(network, TrainConfig(optimizer=name))
    owned = [id(p) for o in optimizers for g in o.param_groups for p in g["params"]]
    assert sorted(owned) == sorted(id(p) for p in network.parameters())
    adamw, *others = optimizers
    assert type(adamw).__name__ == "AdamW"
    assert [type(o).__name__.lower() for o in others] == ([] if name == "adamw" else [name])
    for other in others:
        matrices = {id(p) for p in network.matrix_parameters()}
        assert {id(p) for g in other.param_groups for p in g["params"]} == matrices


def test_norm_weights_are_not_decayed() -> None:
    (adamw,) = build_optimizers(model(), TrainConfig(optimizer="adamw", weight_decay=0.1))
    for group in adamw.param_groups:
        assert all((p.ndim >= 2) == (group["weight_decay"] == 0.1) for p in group["params"])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_restored_state_steps_on_bit_for_bit(name: str) -> None:
    config = TrainConfig(optimizer=name, weight_decay=0.01)
    one = model()
    optimizers = build_optimizers(one, config)
    for seed in range(12):  # SOAP renews its bases at the tenth step
        step(one, optimizers, seed)
    other = model()
    other.load_state_dict(one.state_dict())
    restored = build_optimizers(other, config)
    kept = {k: v.clone() for k, v in optimizer_tensors(optimizers, one).items()}
    restore_optimizers(restored, other, kept)
    for seed in range(12, 24):
        step(one, optimizers, seed)
        step(other, restored, seed)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_embedding_and_head_have_rates_of_their_own() -> None:
    """Adam's first step is the learning rate in size, whatever the gradient."""
    network = model()
    optimizers = build_optimizers(
        network, TrainConfig(optimizer="muon", embedding_rate=3.0, head_rate=0.5)
    )
    torch.nn.init.normal_(network.head.weight, generator=torch.Generator().manual_seed(0))
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    step(network, optimizers, 0)
    moved = {name: (p - before[name]).abs().max().item() for name, p in network.named_parameters()}
    assert moved["embedding.weight"] == pytest.approx(0.03, rel=1e-3)
    assert moved["head.weight"] == pytest.approx(0.005, rel=1e-3)
    assert moved["norm.weight"] == pytest.approx(0.01, rel=1e-3)


def test_a_tied_head_has_the_rate_of_its_embedding() -> None:
    network = model()
    network.head.weight = network.embedding.weight
    with pytest.raises(UserError, match=r"train\.head_rate and train\.embedding_rate"):
        build_optimizers(network, TrainConfig(head_rate=0.5))
    build_optimizers(network, TrainConfig(head_rate=0.5, embedding_rate=0.5))


@pytest.mark.parametrize("name", ["normuon", "soap"])
def test_without_its_library_an_optimiser_says_what_to_install(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    monkeypatch.delitem(sys.modules, "unmask.train.soap", raising=False)
    with pytest.raises(UserError, match=r"unmask\[optimizers\]"):
        build_optimizers(model(), TrainConfig(optimizer=name))


def test_normuon_gives_every_row_of_an_update_the_same_size() -> None:
    """Its first update is that of Muon with rows of one norm, 0.2 a weight on average."""
    network = model()
    optimizers = build_optimizers(network, TrainConfig(optimizer="normuon"))
    before = network.blocks[0].mlp.up.weight.detach().clone()
    torch.nn.init.normal_(network.head.weight, generator=torch.Generator().manual_seed(0))
    step(network, optimizers, 0)
    update = (network.blocks[0].mlp.up.weight.detach() - before) / 0.01
    rows = update.norm(dim=1)
    assert rows.max() / rows.min() < 1.001
    assert update.square().mean().sqrt().item() == pytest.approx(0.2, rel=1e-3)
