"""The validation bound by hand, whatever the batch size, padding and model."""

import numpy as np
import pytest
import torch

from unmask.data.blocks import Blocks
from unmask.diffusion.noise import Stream, uniform, uniform_double
from unmask.model.config import ModelConfig
from unmask.model.transformer import Transformer
from unmask.train.config import ValidationConfig
from unmask.train.validation import evenly_spaced, validate

V, L, N = 11, 7, 20
MASK = V


def model(causal=False, late=0):
    start = MASK if causal or late else None
    config = ModelConfig(layers=2, width=16, heads=2, late=late)
    network = Transformer(config, V + 1, [MASK], mask_id=MASK, causal=causal, start=start)
    generator = torch.Generator().manual_seed(0)
    for name, weight in network.named_parameters():
        if name in ("embedding.weight", "head.weight"):
            weight.data = torch.randn(weight.shape, generator=generator)
    return network


def blocks(ragged=False, filler=0):
    random = np.random.default_rng(0)
    tokens = random.integers(V, size=(N, L)).astype(np.uint16)
    if not ragged:
        return Blocks(tokens, None, 0, 0)
    lengths = random.integers(1, L + 1, size=N).astype(np.int32)
    lengths[:2] = 1, L
    tokens[np.arange(L) >= lengths[:, None]] = filler
    return Blocks(tokens, lengths, 0, 0)


@torch.no_grad()
def nats(network, inputs, targets):
    """(L,) cross-entropies in nats of one unpadded text, from the full logits."""
    logits = network.head(network(inputs[None]))[0].double()
    return -logits.log_softmax(-1)[torch.arange(len(targets)), targets]


def texts(some):
    x = torch.from_numpy(some.tokens.astype(np.int64))
    lengths = [L] * N if some.lengths is None else some.lengths.tolist()
    return [row[:length] for row, length in zip(x, lengths, strict=True)]


def assert_same(a, b):
    assert a.nelbo == pytest.approx(b.nelbo, rel=1e-5)
    assert a.stderr == pytest.approx(b.stderr, rel=1e-4)
    assert a.tokens == b.tokens
    assert (a.c_t is None) == (b.c_t is None)
    for here, there in zip(a.c_t or [], b.c_t or [], strict=True):
        assert here == (there and pytest.approx(there, rel=1e-5))  # None where no draw fell


@pytest.mark.parametrize(("causal", "late"), [(False, 0), (False, 1), (True, 0)])
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3, 7, 1000])
def test_batch_size_changes_nothing(causal, late, ragged, batch_size):
    network, some = model(causal, late), blocks(ragged)
    config = ValidationConfig(blocks=16, draws=3, batch_size=16)
    other = config.model_copy(update={"batch_size": batch_size})
    assert_same(validate(network, some, other, MASK), validate(network, some, config, MASK))


@pytest.mark.parametrize("late", [0, 1])
@pytest.mark.parametrize("ragged", [False, True])
def test_nelbo_by_hand(ragged, late):
    """One text at a time, without padding, with the documented counters for sizes and masks."""
    network, some, draws = model(late=late), blocks(ragged), 5
    config = ValidationConfig(blocks=N, draws=draws, seed=3)
    rows = torch.arange(N)
    offsets = uniform_double(3, Stream.EVAL_SIZE, 0, rows, draws)
    total, by_block = 0.0, []
    for i, text in enumerate(texts(some)):
        block = 0.0
        for d in range(draws):
            size = int((d + offsets[i, d]) / draws * len(text)) + 1
            u = uniform(3, Stream.EVAL_MASK, d, rows[i : i + 1], L)[0, : len(text)]
            mask = u <= u.sort().values[size - 1]
            assert int(mask.sum()) == size
            ce = nats(network, text.masked_fill(mask, MASK), text)
            block += float(ce[mask].sum()) * len(text) / size / draws
        by_block.append((block, len(text)))
        total += block
    bound = validate(network, some, config, MASK)
    n_tokens = sum(length for _, length in by_block)
    assert bound.tokens == n_tokens
    assert bound.nelbo == pytest.approx(total / n_tokens, rel=1e-5)
    squares = sum((block - bound.nelbo * length) ** 2 for block, length in by_block)
    by_hand = (squares / (N - 1) / N) ** 0.5 / (n_tokens / N)
    assert bound.stderr == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("ragged", [False, True])
def test_causal_likelihood_is_that_of_the_next_token(ragged):
    """Chain rule from the start symbol on, first token included; no draws, no curve."""
    network, some = model(causal=True), blocks(ragged)
    by_hand = [float(nats(network, text, text).sum()) for text in texts(some)]
    bound = validate(network, some, ValidationConfig(blocks=N, draws=4), MASK)
    assert bound.nelbo == pytest.approx(sum(by_hand) / sum(map(len, texts(some))), rel=1e-5)
    assert bound.c_t is None
    again = validate(network, some, ValidationConfig(blocks=N, draws=1, seed=5), MASK)
    assert_same(bound, again)


@pytest.mark.parametrize(("causal", "late"), [(False, 0), (False, 1), (True, 0)])
def test_what_stands_in_the_padding_changes_nothing(causal, late):
    config = ValidationConfig(blocks=N)
    zeros, fives = (
        validate(model(causal, late), blocks(ragged=True, filler=filler), config, MASK)
        for filler in (0, 5)
    )
    assert_same(zeros, fives)


def test_same_noise_every_time_and_another_with_another_seed():
    first, again, other = (
        validate(model(), blocks(), ValidationConfig(blocks=N, seed=seed), MASK).nelbo
        for seed in (0, 0, 1)
    )
    assert first == again != other


def test_more_draws_lower_the_standard_error():
    few, many = (
        validate(model(), blocks(), ValidationConfig(blocks=N, draws=draws), MASK).stderr
        for draws in (1, 64)
    )
    assert many < 0.5 * few


@pytest.mark.parametrize(("total", "wanted"), [(10, 3), (10, 10), (10, 99), (1000, 256), (7, 2)])
def test_blocks_are_evenly_spaced(total, wanted):
    chosen = evenly_spaced(total, wanted)
    n = min(total, wanted)
    assert chosen.shape == (n,) and chosen[0] == 0 and chosen[-1] < total
    gaps = torch.cat([chosen, torch.tensor([total])]).diff()
    assert set(gaps.tolist()) <= {total // n, -(-total // n)}


def test_the_chosen_blocks_are_the_ones_measured():
    some = blocks()
    chosen = evenly_spaced(N, 6)
    only = Blocks(some.tokens[chosen.numpy()], None, 0, 0)
    config = ValidationConfig(blocks=6)
    assert_same(validate(model(), some, config, MASK), validate(model(), only, config, MASK))
    assert validate(model(), some, config, MASK).tokens == 6 * L


def test_validation_leaves_no_gradients_and_no_random_state():
    network, before = model(), torch.get_rng_state()
    validate(network, blocks(), ValidationConfig(blocks=4), MASK)
    assert all(p.grad is None for p in network.parameters())
    assert torch.equal(torch.get_rng_state(), before)
