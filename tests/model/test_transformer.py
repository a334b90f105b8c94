"""Initial weights, the head's exclusions, and the network under compile and autocast."""

import math

import pytest
import torch
import torch.nn.functional as F

from unmask.model.config import ModelConfig
from unmask.model.network import parameter_count
from unmask.model.transformer import Transformer

V = 40
CONFIG = ModelConfig(layers=2, width=32, heads=2)
NEVER = [38, 39]


def tokens(*shape):
    return torch.randint(V, shape, generator=torch.Generator().manual_seed(0))


def with_random_head(model):
    torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(1))
    return model


@pytest.mark.parametrize("causal", [False, True])
def test_untrained_network_is_exactly_undecided(causal):
    model = Transformer(CONFIG, V, NEVER, causal=causal, start=0)
    logits = model.head(model(tokens(4, 12)))
    targets = tokens(4, 12) % (V - len(NEVER))
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    assert torch.equal(losses, torch.full_like(losses, math.log(V - len(NEVER))))


def test_never_predicted_ids_have_no_probability_and_no_gradient():
    model = with_random_head(Transformer(CONFIG, V, NEVER))
    logits = model.head(model(tokens(4, 12)))
    probabilities = logits.softmax(-1)
    assert (probabilities[..., NEVER] == 0).all()
    assert (probabilities[..., : V - len(NEVER)] > 0).all()

    F.cross_entropy(logits.flatten(0, 1), tokens(48) % (V - len(NEVER))).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert (model.head.weight.grad[NEVER] == 0).all()


@pytest.mark.parametrize("never", [[V], [-1]])
def test_never_predicted_must_be_ids(never):
    with pytest.raises(ValueError, match="below vocab_size 40"):
        Transformer(CONFIG, V, never)


def test_something_must_be_predictable():
    with pytest.raises(ValueError, match="no token to predict"):
        Transformer(CONFIG, 2, [0, 1])
    Transformer(CONFIG, 2, [1, 1])  # the same id twice leaves the other


def test_weights_depend_on_the_seed_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = Transformer(CONFIG, V, seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), before)

    torch.manual_seed(6)
    twin = Transformer(CONFIG, V, seed=3, causal=True, start=39).state_dict()
    other = Transformer(CONFIG, V, seed=4).state_dict()
    assert first.keys() == twin.keys()
    assert all(torch.equal(first[name], twin[name]) for name in first)
    drawn = [n for n, w in first.items() if w.ndim == 2 and n != "head.weight"]
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


def test_initial_scales():
    model = Transformer(ModelConfig(layers=8, width=128), 500)
    block = model.blocks[3]
    for weight, std in [
        (model.embedding.weight, 0.02),
        (block.attention.q.weight, 128**-0.5),
        (block.mlp.up.weight, 128**-0.5),
        (block.attention.o.weight, 128**-0.5 / 4),
        (block.mlp.down.weight, 352**-0.5 / 4),
    ]:
        assert weight.std().item() == pytest.approx(std, rel=0.03)


def test_state_dict_is_the_parameters():
    model = Transformer(CONFIG, V, NEVER)
    names = set(model.state_dict())
    assert names == {name for name, _ in model.named_parameters()}
    assert {"embedding.weight", "blocks.0.attention.q.weight", "norm.weight"} <= names


def test_matrices_are_the_blocks_2d_weights():
    model = Transformer(CONFIG, V)
    matrices = {id(p) for p in model.matrix_parameters()}
    names = {name for name, p in model.named_parameters() if id(p) in matrices}
    parts = [f"attention.{m}" for m in "qkvo"] + [f"mlp.{m}" for m in ("gate", "up", "down")]
    assert names == {f"blocks.{i}.{part}.weight" for i in range(CONFIG.layers) for part in parts}


def test_parameter_count():
    total, inner = parameter_count(Transformer(CONFIG, V))
    assert total - inner == 2 * V * CONFIG.width
    norms = 2 * CONFIG.width + 2 * CONFIG.head_dim
    per_block = 4 * CONFIG.width**2 + 3 * CONFIG.width * CONFIG.mlp_width + norms
    assert inner == CONFIG.layers * per_block + CONFIG.width


def test_with_a_start_token_a_causal_position_predicts_its_own_token_from_those_before():
    plain = with_random_head(Transformer(CONFIG, V))
    started = with_random_head(Transformer(CONFIG, V, start=39))
    x = tokens(3, 12)
    shifted = torch.cat([torch.full((3, 1), 39), x[:, :-1]], dim=1)
    torch.testing.assert_close(started(x, causal=True), plain(shifted, causal=True))
    assert started(x).shape == (3, 12, 32) and not torch.equal(started(x), started(x, causal=True))


def test_an_autoregressive_network_must_have_a_start_symbol():
    with pytest.raises(ValueError, match="start symbol"):
        Transformer(CONFIG, V, causal=True)


def test_with_a_start_token_every_visible_token_counts_and_padding_does_not():
    model = with_random_head(Transformer(CONFIG, V, start=39))
    x = tokens(1, 12)
    for place in (0, 11):
        other = x.clone()
        other[0, place] = (x[0, place] + 1) % 38
        assert not torch.allclose(model(other)[0, 5], model(x)[0, 5])
    valid = torch.arange(12)[None] < 9
    padded = x.clone()
    padded[0, 9:] = 7
    torch.testing.assert_close(model(x, valid)[:, :9], model(padded, valid)[:, :9])
    torch.testing.assert_close(model(x, valid)[:, :9], model(x[:, :9]))


@pytest.mark.filterwarnings("error")
def test_bfloat16_autocast_is_close():
    model = with_random_head(Transformer(CONFIG, V, NEVER))
    x = tokens(4, 12)
    valid = torch.arange(12) < torch.tensor([12, 7, 3, 12])[:, None]
    exact = model(x, valid)
    exact_logits = model.head(exact)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model(x, valid)
        logits = model.head(hidden)
    assert hidden.dtype == torch.float32  # the residual stream stays exact
    assert logits.dtype == torch.bfloat16
    assert (hidden - exact).abs().max() < 0.05  # the final norm makes them of order 1
    assert not torch.equal(hidden, exact)
    predicted = torch.arange(V) < min(NEVER)
    error = (logits.float() - exact_logits)[..., predicted]
    assert error.std() < 0.02 * exact_logits[..., predicted].std()
    logits.float().logsumexp(-1).sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("causal", [False, True])
def test_compiled_is_the_same(causal):
    torch.compiler.reset()  # graphs of earlier tests count towards the recompilation limit
    eager = with_random_head(Transformer(CONFIG, V, causal=causal, start=39))
    compiled = torch.compile(eager, fullgraph=True)
    for length in (12, 9, 2050):  # the last is beyond the rotary table
        x = tokens(1, length)
        torch.testing.assert_close(compiled(x), eager(x), rtol=1e-4, atol=1e-4)
    x, valid = tokens(2, 12), torch.arange(12) < torch.tensor([12, 5])[:, None]
    torch.testing.assert_close(compiled(x, valid), eager(x, valid), rtol=1e-4, atol=1e-4)

    gradients = []
    for model in (eager, compiled):
        eager.zero_grad()
        eager.head(model(x)).logsumexp(-1).sum().backward()
        gradients.append([p.grad.clone() for p in eager.parameters()])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("causal", [False, True])
def test_recomputing_blocks_keeps_less_and_changes_no_gradient(causal):
    """Of a forward pass it keeps each block's input and what stands outside the blocks."""
    x = torch.randint(0, 40, (3, 16), generator=torch.Generator().manual_seed(0))
    valid = torch.arange(16) < torch.tensor([16, 9, 12])[:, None]
    kept, gradients = [], []
    for recompute in (False, True):
        config = ModelConfig(layers=6, width=32, heads=2)
        model = Transformer(config, 50, causal=causal, start=49 if causal else None)
        model.recompute = recompute
        sizes = {}

        def pack(tensor, sizes=sizes):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = model(x, valid).square().sum()
        loss.backward()
        kept.append(sum(sizes.values()))
        gradients.append({name: p.grad for name, p in model.named_parameters()})
        with torch.no_grad():
            model(x, valid)
    assert kept[1] < kept[0] / 3
    for name, gradient in gradients[0].items():
        assert (gradient is None) == (gradients[1][name] is None)
        if gradient is not None:
            assert torch.equal(gradient, gradients[1][name]), name
