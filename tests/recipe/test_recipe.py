"""Recipes: read from text and written back, and mask rates as functions of counters."""

import dataclasses
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from unmask.base.errors import UserError
from unmask.diffusion.masking import MASKINGS
from unmask.diffusion.noise import Stream, uniform
from unmask.diffusion.objective import WEIGHTINGS
from unmask.diffusion.time import (
    TIME_DISTRIBUTIONS,
    Beta,
    Full,
    TruncatedNormal,
    Uniform,
    alternating_strata,
    stratify,
)
from unmask.recipe import GROUPS, RECIPES, Recipe, parse_recipe

N = 32
SLOTS = torch.arange(N)


def times(recipe, step=0, seed=0, slots=SLOTS, batch_size=N):
    return parse_recipe(recipe).times(seed=seed, step=step, slots=slots, batch_size=batch_size)


@pytest.mark.parametrize("name", RECIPES)
def test_named_recipes_read_back(name):
    assert parse_recipe(name) == RECIPES[name]
    assert parse_recipe(RECIPES[name].spec()) == RECIPES[name]


def test_named_recipes_are_the_published_ones():
    """Effective weight p(t) w(t) t on c(t), up to a constant: 1, 1, t, p t, 1.

    Of fitted ones before the first fit.
    """
    t = torch.tensor([0.1, 0.3, 0.5, 0.9], dtype=torch.float64)
    bell = TruncatedNormal(0.5, 0.2).pdf(t)
    expected = {
        "standard": t / t,
        "iid": t / t,
        "flat": t,
        "bell": bell * t,
        "narrow": RECIPES["narrow"].time.pdf(t) * t,
        "fast": RECIPES["narrow"].time.pdf(t) * t,
        "bell-weighted": t / t,
        "window": ((t > 0.45) & (t < 0.55)).double(),
        "bandwidth": ((t >= 0.3) & (t < 0.8)).double(),
        "clipped": t / t,
        "p-pots": t / t,
        "adaptive": RECIPES["narrow"].time.pdf(t) * t,
        "mirror": t / t,
        "puma": t / t,
        "bell-pairs": RECIPES["narrow"].time.pdf(t) * t,
        "bell-spans": RECIPES["narrow"].time.pdf(t) * t,
        "bell-scattered": RECIPES["narrow"].time.pdf(t) * t,
        "bell-puma": RECIPES["narrow"].time.pdf(t) * t,
        "bell-anneal": RECIPES["narrow"].time.pdf(t) * t,
        "bell-after-ar": RECIPES["narrow"].time.pdf(t) * t,
    }
    for name, shape in expected.items():
        recipe = RECIPES[name]
        effective = recipe.drawn.pdf(t) * recipe.weights(t) * t
        torch.testing.assert_close(effective / effective[2], shape / shape[2])
    assert {name for name, r in RECIPES.items() if not r.stratified} == {"iid"}
    assert {name for name, r in RECIPES.items() if r.causal} == {"ar"}
    assert set(RECIPES) == {*expected, "ar"}
    assert {recipe.group for recipe in RECIPES.values()} == set(GROUPS)


POSITIVE = st.floats(0.05, 20)
TIME_OPTIONS = {
    "uniform": {"low": st.floats(0, 0.4), "high": st.floats(0.5, 1)},
    "truncated-normal": {"mean": st.floats(0, 1), "std": POSITIVE, "low": st.floats(0, 0.4)},
    "logit-normal": {"loc": st.floats(-3, 3), "scale": POSITIVE},
    "beta": {"alpha": POSITIVE, "beta": POSITIVE},
}


@st.composite
def specs(draw):
    """(spec, the distribution's class, all options as text) of a masked recipe."""
    name = draw(st.sampled_from([n for n, r in RECIPES.items() if not r.causal]))
    time = draw(st.sampled_from(sorted(TIME_OPTIONS)))
    options = draw(st.fixed_dictionaries({"time": st.just(time)}, optional=TIME_OPTIONS[time]))
    own = {
        "weight": st.sampled_from(sorted(WEIGHTINGS)),
        "masking": st.sampled_from(["bernoulli", "fixed-count", "spans"]),
        "ar_warmup": st.sampled_from(["0.0", "0.25"]),
        "anneal": st.sampled_from(["0.0", "0.5"]),
        "stratified": st.sampled_from(["true", "false"]),
    }
    if RECIPES[name].paired:
        own["masking"] = st.just("bernoulli")
    options |= draw(st.fixed_dictionaries({}, optional=own))
    text = ",".join(f"{k}={v}" for k, v in draw(st.permutations(list(options.items()))))
    return f"{name}:{text}", TIME_DISTRIBUTIONS[time], options


@given(specs())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_any_override_is_obeyed_and_reads_back(case):
    spec, kind, options = case
    recipe = parse_recipe(spec)
    assert parse_recipe(recipe.spec()) == recipe
    assert type(recipe.time) is kind
    for key, value in options.items():
        if key in ("weight", "masking"):
            assert getattr(recipe, key) == value
        elif key == "stratified":
            assert recipe.stratified is (value == "true")
        elif key in ("ar_warmup", "anneal"):
            assert getattr(recipe, key) == float(value)
        elif key != "time":
            assert getattr(recipe.time, key) == value


def test_what_is_not_overridden_stays():
    recipe = parse_recipe("bell-weighted:mean=0.4")
    assert recipe.time == TruncatedNormal(mean=0.4, std=0.2)
    assert (recipe.name, recipe.weight, recipe.stratified) == ("bell-weighted", "importance", True)


def test_another_time_distribution_starts_from_its_own_defaults():
    assert parse_recipe("bell:time=beta,alpha=3").time == Beta(alpha=3, beta=2)
    assert parse_recipe("bell:time=truncated-normal").time == RECIPES["bell"].time
    assert parse_recipe("ar:time=uniform,masking=bernoulli").time == Uniform()
    assert parse_recipe("flat:time=full,masking=next-token").time == Full()


@pytest.mark.parametrize(
    ("spec", "named", "valid"),
    [
        ("bel", "recipe 'bel'", ["did you mean 'bell'", *RECIPES]),
        ("bell:men=1", "'men'", ["mean", "std", "weight", "masking", "stratified", "time"]),
        ("bell:alpha=1", "'alpha'", ["mean", "std"]),
        ("flat:time=beta,low=0.1", "'low'", ["alpha", "beta"]),
        ("bell:time=gauss", "'gauss'", sorted(TIME_DISTRIBUTIONS)),
        ("bell:weight=none", "weight 'none'", sorted(WEIGHTINGS)),
        ("bell:masking=half", "masking 'half'", sorted(MASKINGS)),
        ("bell:stratified=yes", "stratified", ["true or false", "'yes'"]),
        ("bell:std=wide", "std", ["a number", "'wide'"]),
        ("bell:std=-1", "std > 0", []),
        ("bell:low=0.9,high=0.1", "low < high", []),
        ("bell:std", "'std'", ["key=value"]),
        ("bell:std=1,std=2", "'std'", ["twice"]),
        ("", "recipe ''", list(RECIPES)),
        ("flat:masking=next-token", "time=full", ["masking=next-token"]),
        ("flat:time=full", "time=full", ["masking=next-token"]),
        ("ar:weight=importance", "density", ["importance"]),
        ("mirror:masking=fixed-count", "paired masks", ["masking=bernoulli"]),
        ("narrow:ar_warmup=1", "ar_warmup must be in [0, 1)", []),
        ("narrow:anneal=1.5", "anneal in [0, 1]", []),
        ("ar:ar_warmup=0.2", "autoregressive", []),
    ],
)
def test_errors_name_what_is_wrong_and_list_what_is_valid(spec, named, valid):
    with pytest.raises(UserError, match=re.escape(named)) as error:
        parse_recipe(spec)
    assert all(word in str(error.value) for word in valid)


def test_a_recipe_made_in_python_is_checked_too():
    with pytest.raises(UserError, match="unknown weight"):
        Recipe("mine", Uniform(), weight="none")


@pytest.mark.parametrize("name", ["standard", "iid", "bell", "flat:time=beta"])
def test_times_are_a_function_of_seed_step_and_slot_alone(name):
    """Whatever was drawn before, and however the batch is split, in any order."""
    whole = times(name)
    times(name, step=9, seed=4)
    assert torch.equal(times(name), whole)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    for parts in (SLOTS.split(5), SLOTS.tensor_split(4), SLOTS[:, None]):
        assert torch.equal(torch.cat([times(name, slots=s) for s in parts]), whole)
    assert torch.equal(times(name, slots=order), whole[order])
    assert whole.dtype == torch.float32 and whole.shape == (N,)


def test_every_step_and_seed_draws_its_own():
    drawn = [times("bell", step, seed) for step in range(3) for seed in (0, 1, -1, 2**32)]
    assert len(torch.stack(drawn).unique()) == 12 * N
    assert (times("ar") == 1).all()


@pytest.mark.parametrize("name", ["standard", "bell", "flat:time=logit-normal"])
def test_a_stratified_batch_has_one_rate_in_each_stratum(name):
    edges = parse_recipe(name).time.quantile(torch.arange(N + 1).double() / N)
    for step in range(50):
        t = times(name, step).sort().values.double()
        assert (t >= edges[:-1] - 1e-7).all() and (t <= edges[1:] + 1e-7).all()


@pytest.mark.parametrize("options", ["", ":stratified=false"])
def test_rates_follow_the_distribution(options):
    """Kolmogorov-Smirnov over many steps; strata make the fit closer, never worse."""
    t = torch.cat([times("bell" + options, step) for step in range(200)]).double()
    p = stats.truncnorm(-2.5, 2.5, loc=0.5, scale=0.2)
    test = stats.kstest(t.numpy(), p.cdf)
    assert test.pvalue > 1e-3
    assert not options or test.statistic > 0.002  # independent draws are not that even


def test_stratified_batches_vary_far_less_than_independent_ones():
    def variance(name):
        means = [float(times(name, step).double().mean()) for step in range(300)]
        return float(torch.tensor(means).var())

    independent = variance("iid")
    assert independent == pytest.approx(1 / 12 / N, rel=0.3)
    assert variance("standard") < independent / 300  # 1/N^2 of it, in theory
    assert variance("bell") < variance("bell:stratified=false") / 50


def test_micro_batches_of_a_stratified_batch_are_alike():
    """Eight consecutive samples: their mean rate is near the distribution's."""
    for step in range(20):
        means = times("standard", step).view(4, 8).mean(dim=1)
        assert ((means - 0.5).abs() < 0.12).all()


@given(specs(), st.sampled_from([1, 2, 7, 32]), st.integers(1, 130))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_no_batch_predicts_more_than_its_bound_and_one_nearly_as_many(case, n, length):
    """Sample by sample, also where every rate is the greatest of its stratum."""
    recipe = dataclasses.replace(parse_recipe(case[0]), masking="fixed-count", paired=False)
    slots = torch.arange(n)
    most = recipe.most_predicted(slots=slots, batch_size=n, length=length)
    almost_one = torch.full((n,), 1 - 2.0**-53, dtype=torch.float64)
    top = stratify(alternating_strata(n), almost_one, n) if recipe.stratified else almost_one
    greatest = recipe.time.draw(top).float()
    x = torch.zeros(n, length, dtype=torch.int64)
    u = torch.rand(n, length, generator=torch.Generator().manual_seed(0))
    drawn = [recipe.times(seed=0, step=s, slots=slots, batch_size=n) for s in range(3)]
    for t in (greatest, *drawn):
        predicted = recipe.corrupt(x, t, u, valid=None, mask_id=1).predicted.sum(dim=1)
        assert (predicted <= most).all()
        shorter = torch.arange(length) < length // 2
        padded = recipe.corrupt(x, t, u, valid=shorter.expand(n, -1), mask_id=1).predicted
        assert (padded.sum(dim=1) <= most).all()
    reached = recipe.corrupt(x, greatest, u, valid=None, mask_id=1).predicted.sum(dim=1)
    # The bound of u = 1 may lie beyond what any draw comes to, where the density has a thin tail.
    below = alternating_strata(n) + 1 < n if recipe.stratified else torch.zeros(n, dtype=torch.bool)
    assert (most - reached <= 1)[below].all() and (most <= length).all()


def test_only_where_the_masking_counts_is_there_a_bound():
    bounds = {
        name: parse_recipe(name).most_predicted(slots=SLOTS, batch_size=N, length=128)
        for name in ("bell", "bell:masking=fixed-count", "ar")
    }
    assert bounds["bell"] is None
    assert (bounds["ar"] == 128).all()
    assert int(bounds["bell:masking=fixed-count"].sum()) < 128 * N * 0.54  # 0.5 on average


def masks(recipe, t, u):
    x = torch.zeros(len(t), u.shape[1], dtype=torch.int64)
    return recipe.corrupt(x, t, u, valid=None, mask_id=1).predicted


@pytest.mark.parametrize("name", ["mirror", "bell-pairs", "bell-pairs:mean=0.2,stratified=false"])
def test_a_pair_holds_one_sequence_under_a_mask_and_its_exact_complement(name):
    recipe = parse_recipe(name)
    places, n = recipe.places(SLOTS, N)
    assert n == N // 2 and torch.equal(places.bincount(), torch.full((n,), 2))
    for step in range(30):
        t = times(name, step)
        assert ((t > 0) & (t < 1)).all() and torch.equal(t[::2] + t[1::2], torch.ones(n))
        u = recipe.noise(uniform(0, Stream.MASK, step, places, 500), SLOTS)
        mask = masks(recipe, t, u)
        assert torch.equal(mask[::2], ~mask[1::2])
    with pytest.raises(UserError, match="batch size 7 is odd"):
        recipe.places(torch.arange(7), 7)


def test_pairs_mask_where_noise_and_rate_are_as_close_as_they_can_be():
    recipe = RECIPES["mirror"]
    grain = 2.0**-24
    u = torch.tensor([0.0, 1, 2, 2**23 - 1, 2**23, 2**24 - 2, 2**24 - 1]) * grain
    u = u.repeat(2, 1)
    for j in (1, 2, 2**23, 2**24 - 1):
        t = torch.tensor([j * grain, 1 - j * grain])
        first, second = masks(recipe, t, recipe.noise(u, torch.arange(2)))
        assert torch.equal(first, ~second) and torch.equal(first, u[0] < j * grain)


def test_rates_of_pairs_follow_the_symmetrised_distribution_and_its_weight_stays_unbiased():
    """E[w(t) t g(t)] over the rates of pairs is the integral of g for importance weights."""
    name = "bell-pairs:mean=0.3,std=0.3,weight=importance"
    t = torch.cat([times(name, step) for step in range(300)]).double()
    weights = parse_recipe(name).weights(t)
    for power in (0, 1, 2):
        estimate = float((weights * t * t**power).mean())
        assert estimate == pytest.approx(1 / (power + 1), rel=0.02)


def test_an_annealed_bell_ends_uniform():
    recipe = parse_recipe("bell-anneal:anneal=0.5")
    grid = (torch.arange(1000).double() + 0.5) / 1000
    assert recipe.at(0, 100) is recipe and recipe.at(50, 100) is recipe
    half = recipe.at(75, 100)
    torch.testing.assert_close(half.time.pdf(grid), (1 + recipe.time.pdf(grid)) / 2)
    assert float(half.time.pdf(grid).mean()) == pytest.approx(1, abs=1e-4)
    drawn = torch.cat(
        [half.times(seed=0, step=s, slots=SLOTS, batch_size=N) for s in range(200)]
    ).double()
    low = float((drawn < 0.2).double().mean())
    assert low == pytest.approx(float(half.time.pdf(grid)[grid < 0.2].mean()) * 0.2, abs=0.005)
    assert float(recipe.at(99, 100).time.pdf(grid)[0]) == pytest.approx(0.98, abs=0.001)


def test_a_warm_up_is_causal_for_its_share_of_the_steps():
    recipe = parse_recipe("bell-after-ar:ar_warmup=0.25")
    assert recipe.shifted and not recipe.causal
    phases = [recipe.at(step, 10).phase for step in range(10)]
    assert phases == ["causal"] * 3 + ["masked"] * 7
    assert recipe.at(9, 10) is recipe
    assert (recipe.at(0, 10).times(seed=0, step=0, slots=SLOTS, batch_size=N) == 1).all()
