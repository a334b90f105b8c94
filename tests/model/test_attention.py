"""Who sees whom: every position, only earlier ones, never padding."""

import pytest
import torch

from unmask.model.config import ModelConfig
from unmask.model.layers import Rotary
from unmask.model.transformer import Transformer

V, L = 30, 9
CONFIG = ModelConfig(layers=2, width=32, heads=2)


def model_of(causal):
    model = Transformer(CONFIG, V).eval()
    model.causal = causal  # without the start symbol of an autoregressive network
    return model


def tokens(*shape, seed=0):
    return torch.randint(V, shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def change_by_position(model, x, j):
    """(L,) largest change of each hidden state when token j becomes another."""
    other = x.clone()
    other[:, j] = (other[:, j] + 1) % V
    return (model(other) - model(x)).abs().amax(dim=(0, 2))


@pytest.mark.parametrize("j", range(L))
def test_causal_sees_only_earlier_positions(j):
    change = change_by_position(model_of(causal=True), tokens(2, L), j)
    assert (change[:j] <= 1e-6).all()
    assert (change[j:] > 1e-3).all()


@pytest.mark.parametrize("j", range(L))
def test_bidirectional_sees_every_position(j):
    assert (change_by_position(model_of(causal=False), tokens(2, L), j) > 1e-3).all()


@pytest.mark.parametrize("causal", [False, True])
def test_padding_changes_nothing(causal):
    model = model_of(causal)
    lengths = [L, 5, 1]
    x = tokens(3, L)
    valid = torch.arange(L) < torch.tensor(lengths)[:, None]
    with torch.no_grad():
        hidden = model(x, valid)
        other = model(torch.where(valid, x, tokens(3, L, seed=1)), valid)
        assert torch.equal(hidden[valid], other[valid])
        assert hidden.isfinite().all()
        for row, length in enumerate(lengths):
            alone = model(x[row : row + 1, :length])[0]
            torch.testing.assert_close(hidden[row, :length], alone, rtol=1e-5, atol=1e-5)


def test_bidirectional_padding_may_stand_anywhere():
    model = model_of(causal=False)
    x = tokens(1, L)
    valid = torch.ones(1, L, dtype=torch.bool)
    valid[0, [0, 4]] = False
    with torch.no_grad():
        hidden = model(x, valid)
        x[0, [0, 4]] += 1
        x %= V
        assert torch.equal(hidden[valid], model(x, valid)[valid])


@pytest.mark.parametrize("causal", [False, True])
def test_a_row_of_padding_alone_is_finite(causal):
    model = model_of(causal)
    torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(2, L, dtype=torch.bool)
    valid[1] = False
    hidden = model(tokens(2, L), valid)
    assert hidden.isfinite().all()
    model.head(hidden).logsumexp(-1).sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_rotary_beyond_its_table():
    short, long = Rotary(8, 100.0, cached=4), Rotary(8, 100.0, cached=16)
    for length in (3, 4, 5, 16):
        for ours, whole in zip(short(length), long(length), strict=True):
            assert ours.shape == (length, 1, 8)
            assert torch.equal(ours, whole)


@pytest.mark.parametrize("causal", [False, True])
def test_sequences_longer_than_the_rotary_table(causal):
    short, long = model_of(causal), model_of(causal)
    length = short.rotary.cos.shape[0] + 2
    long.rotary = Rotary(CONFIG.head_dim, CONFIG.rope_theta, cached=2 * length)
    x = tokens(1, length)
    with torch.no_grad():
        assert torch.equal(short(x), long(x))
