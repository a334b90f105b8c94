"""With self-conditioning the bound is one on the likelihood of what the samplers write."""

from copy import deepcopy
from itertools import permutations

import pytest
import torch
from enumeration import all_sequences, cross_entropies, nelbo_weights, random_transformer
from scipy import stats
from torch import Tensor

from unmask.data.blocks import Blocks
from unmask.diffusion.estimators import ESTIMATORS
from unmask.diffusion.sampler import generate
from unmask.model.transformer import Transformer
from unmask.train.config import ValidationConfig
from unmask.train.validation import validate

V, L = 3, 3
MASK = V
TEXTS = all_sequences(V, L)


@pytest.fixture(scope="module")
def model() -> Transformer:
    return random_transformer(V, self_conditioning=True)


@torch.no_grad()
def any_order(model: Transformer) -> Tensor:
    """(V^L,) the probability of each text that is written one token at a time in random order."""
    total = torch.zeros(len(TEXTS), dtype=torch.float64)
    orders = list(permutations(range(L)))
    for order in orders:
        log_p, masked = torch.zeros(len(TEXTS), dtype=torch.float64), torch.ones(L).bool()
        for place in order:
            logits = model.head(model(TEXTS.masked_fill(masked, MASK)))[:, place].double()
            log_p += logits.log_softmax(-1).gather(1, TEXTS[:, place, None]).squeeze(1)
            masked[place] = False
        total += log_p.exp() / len(orders)
    return total


def test_the_bound_is_above_the_likelihood_of_every_text(model: Transformer) -> None:
    likelihood = any_order(model)
    assert float(likelihood.sum()) == pytest.approx(1, abs=1e-5)
    nelbo = L * cross_entropies(model, TEXTS, MASK) @ nelbo_weights(L)
    above = nelbo + likelihood.log()
    assert above.min() > -1e-5 and above.max() > 0.01


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_measures_it(name: str, model: Transformer) -> None:
    blocks = Blocks(TEXTS.repeat(20, 1).numpy(), None, n_tokens=0, n_bytes=0)
    config = ValidationConfig(blocks=len(blocks), draws=32, batch_size=len(blocks))
    found = validate(model, blocks, config, MASK, estimator=name)
    one_pass = deepcopy(model)
    one_pass.state_norm.weight.data.zero_()
    exact, other = (
        float((cross_entropies(m, TEXTS, MASK) @ nelbo_weights(L)).mean())
        for m in (model, one_pass)
    )
    noise = float(found.block_nats.view(20, -1).mean(dim=1).std() / L / 20**0.5)
    assert abs(found.nelbo - exact) < 4 * noise < abs(exact - other) / 2


@torch.no_grad()
def test_a_sampler_draws_from_that_likelihood(model: Transformer) -> None:
    def denoise(x: Tensor, where: Tensor) -> Tensor:
        return model.head(model(x)[where])

    x = torch.full((8_000, L), MASK)
    samples = generate("first-hitting", denoise, x, MASK, steps=1, seed=0)
    numbers = (samples * V ** torch.arange(L - 1, -1, -1)).sum(dim=1)
    counts = torch.bincount(numbers, minlength=V**L).numpy()
    expected = any_order(model)
    expected = (expected / expected.sum() * len(samples)).numpy()
    assert stats.chisquare(counts, expected).pvalue > 1e-3


@torch.no_grad()
def test_the_twin_s_likelihoods_sum_to_one() -> None:
    twin = random_transformer(V, causal=True, self_conditioning=True)
    log_p = twin.head(twin(TEXTS)).double().log_softmax(-1)
    nats = log_p.gather(-1, TEXTS[..., None]).sum(dim=(1, 2))
    assert float(nats.exp().sum()) == pytest.approx(1, abs=1e-5)
    blocks = Blocks(TEXTS.numpy(), None, n_tokens=0, n_bytes=0)
    found = validate(twin, blocks, ValidationConfig(blocks=len(TEXTS)), MASK)
    torch.testing.assert_close(found.block_nats, -nats, rtol=1e-4, atol=1e-4)
