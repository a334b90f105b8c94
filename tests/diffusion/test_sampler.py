"""Samplers against the joint distributions that exact conditionals define."""

import math
from itertools import pairwise, permutations

import pytest
import torch
from enumeration import all_sequences, conditionals, random_joint
from scipy import stats

from unmask.base.errors import UserError
from unmask.diffusion.decoding import Decoding
from unmask.diffusion.sampler import (
    SAMPLERS,
    generate,
    left_to_right,
    margin,
    negative_entropy,
    probability,
)


def ancestral(denoise, x, mask_id, steps, seed, on_step=lambda x: None):
    return generate("ancestral", denoise, x, mask_id, steps=steps, seed=seed, on_step=on_step)


V, L = 3, 3
MASK = V
JOINT = random_joint(V, L)
TEXTS = all_sequences(V, L)
TABLE = conditionals(JOINT, all_sequences(V + 1, L), V, MASK).log()  # log 0 = -inf where visible


def number(x, base):
    return (x * base ** torch.arange(x.shape[1] - 1, -1, -1)).sum(dim=1)


def denoise(x, where):
    """Perfect denoiser: the joint's conditionals given the visible tokens; the mask gets -inf."""
    logits = TABLE[number(x, V + 1)]
    never = torch.full((*x.shape, 1), -math.inf, dtype=torch.float64)
    return torch.cat([logits, never], dim=-1)[where]


def predict_next(prefix, where):
    """Perfect causal model: P(last token of the prefix | those before)."""
    n = prefix.shape[1]
    x = torch.full((len(prefix), L), MASK)
    x[:, : n - 1] = prefix[:, :-1]
    last = torch.zeros(len(prefix), L, dtype=torch.bool)
    last[:, n - 1] = where[:, -1]
    assert not where[:, :-1].any()
    return denoise(x, last)


def masks(n, length=L):
    return torch.full((n, length), MASK)


def p_value(samples, probabilities):
    """Chi-square of sampled texts against the probabilities of `TEXTS`."""
    assert (samples != MASK).all()
    counts = torch.bincount(number(samples, V), minlength=V**L).double()
    return stats.chisquare(counts.numpy(), (probabilities * len(samples)).numpy()).pvalue


def product_of_marginals():
    marginals = TABLE[-1].exp()  # the last row: everything masked
    return torch.stack([marginals[i, TEXTS[:, i]] for i in range(L)]).prod(dim=0)


def uninformed(x, where):
    """Equal odds for every token but the mask, and a note of how often it was asked."""
    uninformed.calls += 1
    logits = torch.zeros(int(where.sum()), V + 1)
    logits[:, MASK] = -math.inf
    return logits


@pytest.fixture(autouse=True)
def no_calls_yet():
    uninformed.calls = 0


def test_one_step_draws_from_the_product_of_marginals():
    samples = ancestral(denoise, masks(8000), MASK, steps=1, seed=0)
    assert p_value(samples, product_of_marginals()) > 1e-3
    assert p_value(samples, JOINT) < 1e-10


def test_many_steps_draw_from_the_joint():
    samples = ancestral(denoise, masks(8000), MASK, steps=200, seed=0)
    assert p_value(samples, JOINT) > 1e-3
    assert p_value(samples, product_of_marginals()) < 1e-10


def test_left_to_right_draws_from_the_joint():
    samples = left_to_right(predict_next, masks(20_000), MASK, seed=0)
    assert p_value(samples, JOINT) > 1e-3


def test_prompts_condition_the_joint():
    """With the middle token given, the rest follows the joint given it."""
    x = masks(8000)
    x[:, 1] = 2
    samples = ancestral(denoise, x, MASK, steps=200, seed=0)
    assert (samples[:, 1] == 2).all()
    given = torch.where(TEXTS[:, 1] == 2, JOINT, 0.0)
    kept = given > 0
    counts = torch.bincount(number(samples, V), minlength=V**L)[kept].double()
    expected = 8000 * given[kept] / given.sum()
    assert stats.chisquare(counts.numpy(), expected.numpy()).pvalue > 1e-3


def test_revealed_tokens_never_change_and_the_share_revealed_is_linear():
    shown = []
    n, length, steps = 500, 20, 10
    ancestral(uninformed, masks(n, length), MASK, steps, 0, lambda x: shown.append(x.clone()))
    assert len(shown) == steps
    for before, after in pairwise(shown):
        assert torch.equal(after[before != MASK], before[before != MASK])
    share = torch.tensor([float((x != MASK).double().mean()) for x in shown])
    torch.testing.assert_close(share, torch.arange(1, 11) / 10, rtol=0, atol=0.025)


@pytest.mark.parametrize("steps", [1, 2, 12, 120])
def test_no_mask_remains(steps):
    samples = ancestral(uninformed, masks(50, 12), MASK, steps, 0)
    assert ((samples >= 0) & (samples < V)).all()


def test_the_network_is_called_only_in_steps_that_reveal():
    shown = [masks(1, 12)]
    ancestral(uninformed, shown[0], MASK, 500, 0, lambda x: shown.append(x.clone()))
    revealing = sum(not torch.equal(a, b) for a, b in pairwise(shown))
    assert uninformed.calls == revealing <= 12


@pytest.mark.parametrize(
    "sample", [*SAMPLERS, *(f"{s} in blocks" for s in SAMPLERS), "left_to_right"]
)
class TestEverySampler:
    def draw(self, sample, x, seed):
        if sample == "left_to_right":
            return left_to_right(uninformed, x.clone(), MASK, seed)
        name, _, blocks = sample.partition(" ")
        length = 5 if blocks else None
        return generate(name, uninformed, x, MASK, steps=9, seed=seed, block_length=length)

    def test_a_row_does_not_depend_on_its_batch(self, sample):
        many = self.draw(sample, masks(8, 12), 0)
        assert torch.equal(self.draw(sample, masks(3, 12), 0), many[:3])
        assert len(many.unique(dim=0)) == 8

    def test_the_seed_decides(self, sample):
        first = self.draw(sample, masks(8, 12), 0)
        assert torch.equal(first, self.draw(sample, masks(8, 12), 0))
        assert not (first == self.draw(sample, masks(8, 12), 1)).all(dim=1).any()

    def test_given_tokens_stay(self, sample):
        x = masks(30, 12)
        given = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) < 0.4
        x[given] = 1
        drawn = self.draw(sample, x, 0)
        assert (drawn[given] == 1).all() and (drawn != MASK).all()
        assert len(drawn[~given].unique()) == V

    def test_nothing_to_fill_costs_nothing(self, sample):
        x = torch.ones(4, 12, dtype=torch.int64)
        assert torch.equal(self.draw(sample, x, 0), x)
        assert uninformed.calls == 0


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sampler_leaves_its_argument_alone(sampler):
    x = masks(4, 12)
    generate(sampler, uninformed, x, MASK, steps=9, seed=0)
    assert (x == MASK).all()


def test_left_to_right_leaves_its_argument_alone():
    x = masks(4, 12)
    left_to_right(uninformed, x, MASK, 0)
    assert (x == MASK).all()


def any_order():
    """A random network, no perfect one: its any-order distribution, every order as likely.

    The probability of a text is the mean over orders of the product of the predictions.
    """
    generator = torch.Generator().manual_seed(3)
    table = torch.randn((V + 1) ** L, L, V, generator=generator, dtype=torch.float64) * 1.5
    log_p = table.log_softmax(dim=-1)

    def network(x, where):
        never = torch.full((*x.shape, 1), -math.inf, dtype=torch.float64)
        return torch.cat([table[number(x, V + 1)], never], dim=-1)[where]

    orders = list(permutations(range(L)))
    probability = torch.zeros(len(TEXTS), dtype=torch.float64)
    for order in orders:
        x, total = masks(len(TEXTS)), torch.zeros(len(TEXTS), dtype=torch.float64)
        for place in order:
            rows = torch.arange(len(TEXTS))
            total += log_p[number(x, V + 1), place][rows, TEXTS[:, place]]
            x[:, place] = TEXTS[:, place]
        probability += total.exp() / len(orders)
    return network, probability


def test_first_hitting_is_exactly_the_any_order_distribution_of_any_network():
    network, probability = any_order()
    samples = generate("first-hitting", network, masks(30_000), MASK, steps=1, seed=0)
    assert p_value(samples, probability) > 1e-3
    one_step = generate("ancestral", network, masks(30_000), MASK, steps=1, seed=0)
    assert p_value(one_step, probability) < 1e-10


@pytest.mark.slow
def test_ancestral_in_many_steps_is_the_any_order_distribution_too():
    """Where a step reveals one token at most: those few texts in which two came together go."""
    network, probability = any_order()
    shown = [masks(10_000)]
    samples = generate(
        "ancestral", network, shown[0], MASK, steps=300, seed=0,
        on_step=lambda x: shown.append(x.clone()),
    )  # fmt: skip
    revealed = torch.stack([(a != b).sum(dim=1) for a, b in pairwise(shown)])
    alone = (revealed <= 1).all(dim=0)
    assert alone.double().mean() > 0.98
    assert p_value(samples[alone], probability) > 1e-3


def test_first_hitting_reveals_one_token_of_each_row_at_a_time():
    x = masks(40, 12)
    x[:20, 3:] = 1  # rows with 3 tokens to fill
    shown = [x]
    generate("first-hitting", uninformed, x, MASK, steps=1, seed=0, on_step=shown.append)
    assert len(shown) == 13 and uninformed.calls == 12
    for step, (a, b) in enumerate(pairwise(shown)):
        assert (a != b).sum(dim=1).tolist() == [int(step < 3)] * 20 + [1] * 20


def peaked(x, where):
    """Certain of position i to a degree that grows with i, and of token i modulo V."""
    logits = torch.zeros(*x.shape, V + 1, dtype=torch.float64)
    places = torch.arange(x.shape[1])
    logits[:, places, places % V] = 1.0 + places.double()
    logits[..., MASK] = -math.inf
    return logits[where]


@pytest.mark.parametrize("sampler", ["confidence", "margin", "entropy"])
@pytest.mark.parametrize(("steps", "counts"), [(12, [1] * 12), (5, [2, 2, 3, 2, 3]), (1, [12])])
def test_the_most_certain_come_first_and_each_step_reveals_its_share(sampler, steps, counts):
    shown = [masks(3, 12)]
    greedy = Decoding(temperature=0)
    out = generate(
        sampler, peaked, shown[0], MASK, steps=steps, seed=0, decoding=greedy, on_step=shown.append
    )
    assert torch.equal(out, (torch.arange(12) % V).expand(3, -1))
    left = 12
    for (a, b), count in zip(pairwise(shown), counts, strict=True):
        assert (a != b).nonzero()[:, 1].view(3, -1).tolist() == [
            list(range(left - count, left))
        ] * 3
        left -= count


def test_certainties_are_what_they_are_called():
    p = torch.tensor([[0.7, 0.2, 0.1], [0.4, 0.35, 0.25], [0.0, 0.5, 0.5]], dtype=torch.float64)
    drawn = torch.tensor([1, 0, 2])
    assert probability(p.log(), drawn).exp().tolist() == pytest.approx([0.2, 0.4, 0.5])
    assert margin(p.log(), drawn).tolist() == pytest.approx([0.5, 0.05, 0.0])
    entropy = stats.entropy(p.numpy(), axis=1)
    assert (-negative_entropy(p.log(), drawn)).tolist() == pytest.approx(entropy.tolist())


def test_rows_with_different_numbers_of_masks_end_together():
    x = masks(3, 12)
    x[0, 2:], x[1, 7:] = 1, 1
    shown = [x]
    generate("confidence", peaked, x, MASK, steps=4, seed=0, on_step=shown.append)
    assert len(shown) == 5
    revealed = [(a != b).sum(dim=1).tolist() for a, b in pairwise(shown)]
    assert revealed == [[0, 1, 3], [1, 2, 3], [0, 2, 3], [1, 2, 3]]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_blocks_are_filled_from_left_to_right(sampler):
    """Blocks count the masked tokens: what is given does not fill them."""
    x = masks(2, 12)
    x[1, 1] = x[1, 4] = 2
    shown = [x]
    generate(sampler, uninformed, x, MASK, steps=6, seed=0, block_length=5, on_step=shown.append)
    for out in shown:
        for row, given in zip(out, x, strict=True):
            filled = (row != MASK)[given == MASK]
            blocks = [b.tolist() for b in filled.split(5)]
            for earlier, later in pairwise(blocks):
                assert all(earlier) or not any(later)
    assert (shown[-1] != MASK).all()


def test_blocks_of_one_are_left_to_right():
    samples = generate("ancestral", denoise, masks(20_000), MASK, steps=1, seed=0, block_length=1)
    assert p_value(samples, JOINT) > 1e-3


def test_a_function_is_all_that_a_new_sampler_needs(monkeypatch):
    """From right to left, one token a step: also a factorisation of the joint."""

    def right_to_left(task, on_step):
        x = task.x
        for k in range(x.shape[1]):
            where = torch.zeros_like(task.where)
            where[:, x.shape[1] - 1 - k] = True
            x = task.reveal(x, where & task.where, k)
            on_step(x)
        return x

    monkeypatch.setitem(SAMPLERS, "right-to-left", right_to_left)
    shown = []
    samples = generate(
        "right-to-left", denoise, masks(8000), MASK, steps=1, seed=0, on_step=shown.append
    )
    assert p_value(samples, JOINT) > 1e-3
    assert [int((x == MASK).sum()) for x in shown] == [16000, 8000, 0]


def test_bad_requests():
    for options, said in (
        ({"sampler": "gibbs"}, "valid: ancestral"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"block_length": 0}, "block_length must be at least 1"),
    ):
        with pytest.raises(UserError, match=said):
            asked = {"sampler": "ancestral", "steps": 3, **options}
            generate(asked.pop("sampler"), uninformed, masks(1), MASK, seed=0, **asked)
