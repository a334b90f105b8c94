"""What may be added to the network: convolutions, loops, other feed-forwards and values."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from unmask.base.errors import UserError
from unmask.model.config import ModelConfig
from unmask.model.flops import training_flops
from unmask.model.layers import Convolution, SquaredReLU
from unmask.model.network import parameter_count
from unmask.model.transformer import Transformer

V, L = 40, 12
VARIANTS = {
    "convolution": {"convolution": 2},
    "loops": {"loops": 3},
    "relu2": {"activation": "relu2"},
    "zero": {"zero_outputs": True},
    "values": {"value_embedding": True},
    "self": {"self_conditioning": True},
    "all": {
        "convolution": 3,
        "loops": 2,
        "activation": "relu2",
        "zero_outputs": True,
        "value_embedding": True,
        "self_conditioning": True,
    },
}


def config(**variant: object) -> ModelConfig:
    return ModelConfig(layers=4, width=32, heads=2, **variant)


def network(causal: bool = False, drawn: bool = True, **variant: object) -> Transformer:
    """One all of whose weights matter."""
    model = Transformer(config(**variant), V, start=39 if causal else None, causal=causal)
    generator = torch.Generator().manual_seed(1)
    if drawn:
        for p in model.parameters():
            with torch.no_grad():
                p.add_(0.2 * torch.randn(p.shape, generator=generator))
    return model


def tokens(*shape: int) -> Tensor:
    return torch.randint(V - 1, shape, generator=torch.Generator().manual_seed(0))


def drawn_convolution(reach: int) -> Convolution:
    made = Convolution(6, reach)
    torch.nn.init.normal_(made.weight, generator=torch.Generator().manual_seed(0))
    return made


@pytest.mark.parametrize("reach", [1, 3, 20])
@pytest.mark.parametrize("causal", [False, True])
def test_a_convolution_adds_weighted_neighbours(reach: int, causal: bool) -> None:
    made, x = drawn_convolution(reach), torch.randn(2, L, 6)
    expected = x.clone()
    for place in range(L):
        for k, other in enumerate(range(place - reach, place + (0 if causal else reach) + 1)):
            if 0 <= other < L:
                expected[:, place] += made.weight[:, 0, k] * x[:, other]
    torch.testing.assert_close(made(x, None, causal), expected)


def test_a_convolution_takes_nothing_from_padding() -> None:
    made, x = drawn_convolution(2), torch.randn(2, L, 6)
    valid = torch.arange(L) < torch.tensor([L, 5])[:, None]
    other = torch.where(valid[:, :, None], x, 7.0)
    mask = valid[:, None, None, :]
    assert torch.equal(made(x, mask, False)[valid], made(other, mask, False)[valid])
    torch.testing.assert_close(made(x, mask, False)[1, :5], made(x[1:, :5], None, False)[0])


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_causal_pass_sees_nothing_to_the_right(variant: str) -> None:
    model, x = network(causal=True, **VARIANTS[variant]), tokens(1, L)
    changed = x.clone()
    changed[0, 6] = (x[0, 6] + 1) % (V - 1)
    before, after = model(x), model(changed)
    assert torch.equal(before[:, :7], after[:, :7])  # position i predicts token i from those before
    assert not torch.allclose(before[:, 7:], after[:, 7:])


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_bidirectional_pass_sees_both_sides_and_no_padding(variant: str) -> None:
    model, x = network(**VARIANTS[variant]), tokens(2, L)
    valid = torch.arange(L) < torch.tensor([L, 7])[:, None]
    for place in (5, 7):
        changed = x.clone()
        changed[0, place] = (x[0, place] + 1) % (V - 1)
        assert not torch.allclose(model(x)[0, 6], model(changed)[0, 6])
    padded = x.masked_fill(~valid, 3)
    torch.testing.assert_close(model(x, valid)[valid], model(padded, valid)[valid])
    torch.testing.assert_close(model(x, valid)[1, :7], model(x[1:, :7])[0])


def test_a_convolution_starts_as_the_network_without() -> None:
    plain, convolved = network(drawn=False), network(drawn=False, convolution=2)
    torch.nn.init.ones_(plain.head.weight)
    x = tokens(2, L)
    assert torch.equal(plain(x), convolved(x))
    convolved(x).square().sum().backward()
    convolutions = [m for m in convolved.modules() if isinstance(m, Convolution)]
    assert len(convolutions) == 1 + 2 * 4
    assert all(m.weight.grad is not None and m.weight.grad.any() for m in convolutions)


def test_muon_has_no_convolution() -> None:
    model = network(**VARIANTS["all"])
    assert all(p.ndim == 2 for p in model.matrix_parameters())
    assert len(model.matrix_parameters()) == 4 * (4 + 2)


@pytest.mark.parametrize(
    ("layers", "loops", "passes"),
    [
        (4, 0, [0, 1, 2, 3]),
        (4, 1, [0, 1, 2, 3]),
        (4, 2, [0, 1, 2, 1, 2, 3]),
        (1, 3, [0, 0, 0]),
        (3, 2, [0, 1, 0, 1, 2]),
        (6, 2, [0, 1, 2, 3, 1, 2, 3, 4, 5]),
        (12, 2, [0, 1, 2, *range(3, 9), *range(3, 9), 9, 10, 11]),
    ],
)
def test_the_early_middle_half_is_looped(layers: int, loops: int, passes: list[int]) -> None:
    assert ModelConfig(layers=layers, loops=loops).passes == passes


def test_loops_pass_the_same_blocks_again() -> None:
    once, looped = network(), network(loops=2)
    looped.load_state_dict(once.state_dict())
    x = tokens(2, L)
    hidden, angles = once.embedding(x), once.rotary(L)
    for i in (0, 1, 2, 1, 2, 3):
        hidden = once.blocks[i](hidden, angles, None, False)
    assert torch.equal(looped(x), once.norm(hidden))


def test_with_zero_outputs_a_block_starts_by_changing_nothing() -> None:
    model, plain = network(drawn=False, zero_outputs=True), network(drawn=False)
    x = tokens(2, L)
    assert torch.equal(model(x), model.norm(model.embedding(x)))
    assert torch.equal(model.blocks[3].mlp.up.weight, plain.blocks[3].mlp.up.weight)


def test_squared_relu_is_that() -> None:
    made = SquaredReLU(config(activation="relu2"))
    for weight in made.parameters():
        torch.nn.init.normal_(weight)
    x = torch.randn(3, 32)
    expected = F.relu(x @ made.up.weight.T) ** 2 @ made.down.weight.T
    torch.testing.assert_close(made(x), expected)


def test_value_embeddings_reach_only_through_the_values() -> None:
    """With a scale of 0 in every block the table does nothing."""
    model, x = network(value_embedding=True), tokens(2, L)
    before = model(x)
    with torch.no_grad():
        model.value_embedding.weight.add_(1.0)
        assert not torch.allclose(model(x), before)
        for block in model.blocks:
            block.attention.value_scale.zero_()
        without = model(x)
        model.value_embedding.weight.add_(1.0)
    assert torch.equal(model(x), without)


@pytest.mark.parametrize("variant", VARIANTS)
def test_weights_are_counted(variant: str) -> None:
    total, inner = parameter_count(network(**VARIANTS[variant]))
    shape = config(**VARIANTS[variant])
    assert inner == shape.inner_parameters
    assert total == inner + (2 + shape.value_embedding) * V * shape.width
    assert sum(p.numel() for p in network(**VARIANTS[variant]).matrix_parameters()) == (
        shape.block_matrices
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_operations_are_counted(variant: str) -> None:
    """Torch's counter takes the gradient of a depthwise convolution for a dense one's."""
    shape = config(**VARIANTS[variant])
    model = Transformer(shape, V)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(tokens(3, L))
    passes = len(shape.passes) * (1 + shape.self_conditioning)
    forward = counter.get_total_flops() + passes * 4 * 3 * L**2 * 32  # attention
    rates = torch.zeros(3)  # nothing is predicted: no head
    found = training_flops(shape, V, L, rates, causal=False, start=False, asked=True)
    without = training_flops(shape, V, L, rates, causal=False, start=False)
    assert found - without == forward


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"late": 1, "convolution": 2}, "late and convolution do not go together"),
        ({"late": 1, "value_embedding": True}, "late and value_embedding do not go together"),
        ({"late": 1, "self_conditioning": True}, "late and self_conditioning do not go together"),
        (
            {"late": 2, "loops": 2},
            "late 2 of 4 blocks are among those that loops repeat; at most 1",
        ),
        ({"activation": "gelu"}, "activation"),
        ({"convolution": -1}, "convolution"),
    ],
)
def test_what_does_not_go_together_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        config(**fields)


def test_late_positions_and_loops_go_together() -> None:
    """Looped blocks are among the first, which visible tokens alone pass."""
    model = Transformer(config(late=1, loops=2), V, start=38, mask_id=39)
    x = tokens(2, L).masked_fill(torch.arange(L) % 3 == 0, 39)
    assert model(x).isfinite().all()
    blocks = []
    for block in model.blocks:
        block.register_forward_hook(lambda *_: blocks.append(1))
    model(x, causal=True)
    assert len(blocks) == 6


@pytest.mark.slow
@pytest.mark.parametrize("causal", [False, True])
def test_compiled_is_the_same(causal: bool) -> None:
    torch.compiler.reset()
    model = network(causal=causal, **VARIANTS["all"])
    compiled, x = torch.compile(model), tokens(3, L)
    valid = None if causal else torch.arange(L) < torch.tensor([L, 7, 9])[:, None]
    torch.testing.assert_close(compiled(x, valid), model(x, valid), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("zero", [True, False])
def test_blocks_begin_by_doing_nothing_where_asked_to(zero: bool) -> None:
    """The state of a token then is its embedding's, normed."""
    x, model = tokens(2, L), Transformer(ModelConfig(zero_outputs=zero), V)
    with torch.no_grad():
        assert torch.equal(model(x), model.norm(model.embedding(x))) is zero
