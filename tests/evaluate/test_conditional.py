"""The bound of a continuation given its prefix, by enumeration of all masks and all orders."""

import pytest
import torch

from unmask.base.errors import UserError
from unmask.evaluate.conditional import CONDITIONAL_ESTIMATORS, conditional_nll, greedy_matches
from unmask.model.config import ModelConfig
from unmask.model.transformer import Transformer

V = 4
MASK = V
PAIRS = [
    ([0, 1], [2, 3, 1]),
    ([], [1, 0, 2, 2]),
    ([3], [1]),
    ([1, 2, 3, 0, 0], [2, 1]),
    ([2, 2], []),
    ([0], [3, 3, 3, 0]),
]


def model(causal=False, late=0):
    start = MASK if causal or late else None
    config = ModelConfig(layers=1 + late, width=16, heads=2, late=late)
    network = Transformer(config, V + 1, [MASK], mask_id=MASK, causal=causal, start=start)
    generator = torch.Generator().manual_seed(3)
    for name, weight in network.named_parameters():
        if name in ("embedding.weight", "head.weight"):
            weight.data = 0.7 * torch.randn(weight.shape, generator=generator)
    return network


@torch.no_grad()
def log_probabilities(network, inputs):
    return network.head(network(torch.tensor([inputs])))[0].double().log_softmax(-1)


def any_order(network, prefix, continuation):
    """Mean over all orders of revealing: a recursion over the set of hidden tokens."""
    start, known = len(prefix), {}

    def nats(hidden):
        if not hidden:
            return 0.0
        if hidden not in known:
            text = [*prefix, *continuation]
            shown = [MASK if i - start in hidden else token for i, token in enumerate(text)]
            found = log_probabilities(network, shown)
            known[hidden] = sum(
                -float(found[start + i, continuation[i]]) + nats(hidden - {i}) for i in hidden
            ) / len(hidden)
        return known[hidden]

    return nats(frozenset(range(len(continuation))))


@pytest.mark.parametrize(
    "estimator",
    [
        name if name == "complementary" else pytest.param(name, marks=pytest.mark.slow)
        for name in CONDITIONAL_ESTIMATORS
    ],
)
@pytest.mark.parametrize("late", [0, 1])
def test_the_bound_is_the_mean_over_all_orders(estimator, late):
    network = model(late=late)
    found = conditional_nll(network, PAIRS, mask_id=MASK, draws=1500, estimator=estimator)
    for (prefix, continuation), (nats, stderr) in zip(PAIRS, found, strict=True):
        exact = any_order(network, prefix, continuation)
        assert nats == pytest.approx(exact, abs=4.5 * stderr + 1e-5 * exact)
        assert stderr < 0.1 * max(exact, 1e-9)


def test_a_single_token_and_none_are_exact_with_any_draws():
    network = model()
    found = conditional_nll(network, PAIRS, mask_id=MASK, draws=2)
    alone = -float(log_probabilities(network, [3, MASK])[1, 1])
    assert found[2] == (pytest.approx(alone, rel=1e-5), 0.0)
    assert found[4] == (0.0, 0.0)


def test_the_stated_error_covers_the_scatter_over_seeds():
    network = model()
    pairs = [PAIRS[1], PAIRS[5]]
    rounds = [conditional_nll(network, pairs, mask_id=MASK, draws=8, seed=s) for s in range(60)]
    for i in range(2):
        values = torch.tensor([found[i][0] for found in rounds])
        stated = torch.tensor([found[i][1] for found in rounds]).square().mean().sqrt()
        assert 0 < float(values.std()) < 1.25 * float(stated)


@pytest.mark.parametrize(("causal", "late"), [(False, 0), (False, 1), (True, 0)])
@pytest.mark.parametrize("batch_size", [1, 3, 1000])
def test_neither_the_batch_size_nor_the_company_changes_a_result(causal, late, batch_size):
    network = model(causal, late)
    together = conditional_nll(network, PAIRS, mask_id=MASK, draws=6)
    again = conditional_nll(network, PAIRS[::-1], mask_id=MASK, draws=6, batch_size=batch_size)
    for one, other in zip(together, again[::-1], strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-6)
    (alone,) = conditional_nll(network, PAIRS[3:4], mask_id=MASK, draws=6)
    assert alone == pytest.approx(together[3], rel=1e-5, abs=1e-6)


def test_a_causal_model_is_exact():
    network = model(causal=True)
    for (prefix, continuation), found in zip(
        PAIRS, conditional_nll(network, PAIRS, mask_id=MASK), strict=True
    ):
        text = [*prefix, *continuation]
        nats = 0.0
        if continuation:
            steps = log_probabilities(network, text)
            nats = -sum(float(steps[i, text[i]]) for i in range(len(prefix), len(text)))
        assert found == (pytest.approx(nats, rel=1e-5), 0.0)


def greedy(network, prefix, n):
    """What one gets by revealing the surest token at a time; left to right if causal."""
    text = [*prefix, *[MASK] * n]
    for _ in range(n):
        found = log_probabilities(network, text)
        places = [i for i, token in enumerate(text) if token == MASK]
        place = places[0] if network.causal else max(places, key=lambda i: float(found[i].max()))
        text[place] = int(found[place].argmax())
    return text[len(prefix) :]


@pytest.mark.parametrize(("causal", "late"), [(False, 0), (False, 1), (True, 0)])
def test_greedy_matches_exactly_the_greedy_continuation(causal, late):
    network = model(causal, late)
    prefixes = [[0], [1, 2], [3, 0, 1, 2], []]
    right = [(prefix, greedy(network, prefix, 4)) for prefix in prefixes]
    wrong = [
        (prefix, [*text[:i], (text[i] + 1) % V, *text[i + 1 :]])
        for prefix, text in right
        for i in range(4)
    ]
    pairs = [*wrong, *right, ([1], [])]
    for batch_size in (3, 64):
        found = greedy_matches(network, pairs, mask_id=MASK, batch_size=batch_size)
        assert found == [False] * 16 + [True] * 5


def test_bad_input_is_told():
    with pytest.raises(UserError, match="valid: complementary, fixed-count"):
        conditional_nll(model(), PAIRS, mask_id=MASK, estimator="controlled")
    with pytest.raises(UserError, match="even, not 3"):
        conditional_nll(model(), PAIRS, mask_id=MASK, draws=3)
