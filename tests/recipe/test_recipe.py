"""Recipes: read from text and written back, and mask rates as functions of counters."""

import dataclasses
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from unmask.base.errors import UserError
from unmask.config import Config
from unmask.diffusion.masking import MASKINGS, Bernoulli, Correlated, Scattered
from unmask.diffusion.objective import WEIGHTINGS
from unmask.diffusion.time import TIME_DISTRIBUTIONS, Beta, TruncatedNormal, Uniform
from unmask.recipe.objective import COMPANIONS, Denoising, NextToken
from unmask.recipe.parse import RECIPES, parse_recipe, short_spelling
from unmask.recipe.recipe import GROUPS, Recipe
from unmask.recipe.share import Share

N = 32
SLOTS = torch.arange(N)


def portions(recipe, step=0, seed=0, slots=SLOTS, batch_size=N, steps=100):
    recipe = parse_recipe(recipe) if isinstance(recipe, str) else recipe
    return recipe.portions(seed=seed, step=step, steps=steps, slots=slots, batch_size=batch_size)


def times(recipe, step=0, seed=0, slots=SLOTS, batch_size=N):
    """Rates of a recipe of one objective, in the slots' order."""
    (portion,) = portions(recipe, step, seed, slots, batch_size)
    return portion.t


@pytest.mark.parametrize("name", RECIPES)
def test_named_recipes_read_back(name):
    assert parse_recipe(name) == RECIPES[name]
    assert parse_recipe(RECIPES[name].spec()) == RECIPES[name]


def test_named_recipes_are_the_published_ones():
    """Effective weight p(t) w(t) t on c(t), up to a constant: 1, 1, t, p t, 1.

    Of fitted ones before the first fit.
    """
    t = torch.tensor([0.1, 0.3, 0.5, 0.9], dtype=torch.float64)
    bell, narrow = TruncatedNormal(0.5, 0.2).pdf(t), TruncatedNormal(0.5, 0.1).pdf(t)
    expected = {
        "standard": t / t,
        "iid": t / t,
        "flat": t,
        "bell": bell * t,
        "narrow": narrow * t,
        "fast": narrow * t,
        "bell-weighted": t / t,
        "window": ((t > 0.45) & (t < 0.55)).double(),
        "bandwidth": ((t >= 0.3) & (t < 0.8)).double(),
        "clipped": t / t,
        "p-pots": t / t,
        "adaptive": narrow * t,
        "mirror": t / t,
        "puma": t / t,
        "narrow-pairs": narrow * t,
        "narrow-spans": narrow * t,
        "narrow-scattered": narrow * t,
        "narrow-puma": narrow * t,
        "narrow-anneal": narrow * t,
        "narrow-after-ar": narrow * t,
    }
    for name, shape in expected.items():
        main = RECIPES[name].main
        effective = main.density(t) * main.weights(t) * t
        torch.testing.assert_close(effective / effective[2], shape / shape[2])
    assert {name for name, r in RECIPES.items() if not r.main.stratified} == {"iid"}
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
MASKING_OPTIONS = {"neighbours": st.floats(-0.9, 0.9)}
NUMBER = st.floats(0, 1).map(lambda x: round(x, 3))


@st.composite
def shares(draw, most=1.0):
    """A share of any form, at most so great."""
    in_steps = draw(st.booleans())
    number = st.integers(0, 150).map(float) if in_steps else NUMBER
    places = sorted(draw(st.lists(number, min_size=1, max_size=4)))
    return Share(tuple((draw(st.floats(0, most)), at) for at in places), in_steps)


@st.composite
def specs(draw):
    """(spec, the distribution's class, all options as text) of a masked recipe."""
    name = draw(st.sampled_from([n for n, r in RECIPES.items() if not r.causal]))
    time = draw(st.sampled_from(sorted(TIME_OPTIONS)))
    options = draw(st.fixed_dictionaries({"time": st.just(time)}, optional=TIME_OPTIONS[time]))
    masking = draw(st.sampled_from(sorted(MASKINGS)))
    own = {
        "weight": st.sampled_from(sorted(WEIGHTINGS)),
        "stratified": st.sampled_from(["true", "false"]),
        "mix": st.sampled_from(["batch", "steps"]),
    }
    if RECIPES[name].main.paired:
        masking, own["mix"] = "bernoulli", st.just("steps")
    if not RECIPES[name].shares:
        own |= {companion: shares(0.3).map(str) for companion in COMPANIONS}
    if draw(st.booleans()) or RECIPES[name].main.paired:
        options["masking"] = masking
        if issubclass(MASKINGS[masking], Correlated):
            options["neighbours"] = draw(MASKING_OPTIONS["neighbours"])
    options |= draw(st.fixed_dictionaries({}, optional=own))
    if RECIPES[name].main.paired and "mix" not in options:
        options["mix"] = "steps"
    text = ",".join(f"{k}={v}" for k, v in draw(st.permutations(list(options.items()))))
    return f"{name}:{text}", TIME_DISTRIBUTIONS[time], options


@given(specs())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_any_override_is_obeyed_and_reads_back(case):
    spec, kind, options = case
    recipe = parse_recipe(spec)
    assert parse_recipe(recipe.spec()) == recipe
    assert parse_recipe(recipe.spec()).spec() == recipe.spec()
    assert type(recipe.main.time) is kind
    for key, value in options.items():
        if key == "weight":
            assert recipe.main.weight == value
        elif key == "masking":
            assert type(recipe.main.masking) is MASKINGS[value]
        elif key == "neighbours":
            assert recipe.main.masking.neighbours == value
        elif key == "stratified":
            assert recipe.main.stratified is (value == "true")
        elif key == "mix":
            assert recipe.mix == value
        elif key in COMPANIONS:
            assert str(recipe.shares.get(key, 0)) == value
        elif key != "time":
            assert getattr(recipe.main.time, key) == value


def test_a_modifier_means_the_same_on_every_recipe():
    scattered = parse_recipe("bell:masking=scattered,neighbours=-0.9").main
    assert scattered == Denoising(TruncatedNormal(0.5, 0.2), Scattered(-0.9))
    assert parse_recipe("fast:masking=bernoulli").main == RECIPES["narrow"].main
    mixed = parse_recipe("bell:next-token=0.3")
    assert mixed.main == RECIPES["bell"].main
    assert mixed.objectives == [NextToken(), mixed.main]
    assert parse_recipe("fast:next-token=0").shares == {}


def test_no_key_of_a_recipe_has_two_meanings():
    """Parameters of time distributions and maskings, and a recipe's own keys."""
    own = {"time", "masking", "weight", "stratified", "paired", "fit", "mix", *COMPANIONS}
    of_times = {f.name for kind in TIME_DISTRIBUTIONS.values() for f in dataclasses.fields(kind)}
    of_masks = {f.name for kind in MASKINGS.values() for f in dataclasses.fields(kind)}
    assert not (own & of_times or own & of_masks or of_times & of_masks)
    assert own >= set(RECIPES["bell"].main.options()) - of_times - of_masks


def test_what_is_not_overridden_stays():
    recipe = parse_recipe("bell-weighted:mean=0.4")
    bell = TruncatedNormal(mean=0.4, std=0.2)
    assert recipe == Recipe("bell-weighted", Denoising(bell, weight="importance"))


def test_another_time_distribution_or_masking_starts_from_its_own_defaults():
    assert parse_recipe("bell:time=beta,alpha=3").main.time == Beta(alpha=3, beta=2)
    assert parse_recipe("bell:time=truncated-normal").main == RECIPES["bell"].main
    again = parse_recipe("narrow-scattered:neighbours=-0.9,masking=scattered")
    assert again.main.masking == Scattered(-0.9)
    assert parse_recipe("narrow-spans:masking=scattered").main.masking == Scattered(-0.7)


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
        ("flat:masking=next-token", "now spelled 'ar'", []),
        ("flat:time=full", "now spelled 'ar'", []),
        ("ar:weight=importance", "autoregressive", ["'weight'"]),
        ("ar:next-token=0.5", "autoregressive", ["'next-token'"]),
        ("puma:paired=true", "paired=true", ["does not ask the model"]),
        ("bell:masking=correlated", "needs neighbours", []),
        ("bell:neighbours=0.1", "'neighbours'", ["masking", "mix", *COMPANIONS]),
        ("bell:masking=scattered,neighbours=-1", "between -1 and 1", []),
        ("bell:mix=both", "mix 'both'", ["batch", "steps"]),
        ("bell:next-token=much", "next-token: 'much'", ["1@0.2/0@0.2"]),
        ("bell:next-token=1@0.1/0@9steps", "has points at progress and at steps", []),
        ("bell:next-token=1@1.5steps/0@2steps", "or at steps such as 1@400steps/0@400steps", []),
        ("bell:next-token=1@9steps/0@5steps", "steps must not fall from one point", []),
        ("bell:next-token=1@9steps/0@9steps,uniform=0.1", "1.1 at step 0; at most 1", []),
        ("bell:next-token=1.5", "next-token: shares and progress must be in [0, 1]", []),
        ("bell:next-token=1@0.5/0@0.2", "progress must not fall", []),
        ("bell:next-token=1@0.5/0", "no @progress", []),
        ("bell:next-token=0.6,uniform=0@0/0.5@1", "add up to 1.1 at progress 1", ["at most 1"]),
        ("fast:uniform=0.1", "add up to 1.1 at progress 0", []),
        ("mirror:next-token=0.5", "mix=steps", []),
        ("bell-scattered:std=0.2", "now spelled 'narrow-scattered:std=0.2'", []),
        ("fast:ar_warmup=0.5", "now spelled 'fast:next-token=1@0.5/0@0.5'", []),
        ("bell:std=0.1,anneal=0.3", "now spelled 'bell:std=0.1,uniform=0@0.7/1@1'", []),
        ("fast:ar_warmup=0", "now spelled 'fast:next-token=0'", []),
        ("bell:masking=alternating", "'bell:masking=scattered,neighbours=-0.9'", []),
        ("fast:ar_warmup=x", "must be a number, not 'x'", []),
    ],
)
def test_errors_name_what_is_wrong_and_list_what_is_valid(spec, named, valid):
    with pytest.raises(UserError, match=re.escape(named)) as error:
        parse_recipe(spec)
    assert all(word in str(error.value) for word in valid)


def test_a_recipe_made_in_python_is_checked_too():
    with pytest.raises(UserError, match="unknown weight"):
        Recipe("mine", Denoising(Uniform(), weight="none"))
    with pytest.raises(UserError, match="unknown companion"):
        Recipe("mine", Denoising(Uniform()), {"next": Share.parse("0.5")})
    with pytest.raises(UserError, match="no companions"):
        Recipe("mine", NextToken(), {"uniform": Share.parse("0.5")})


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
    edges = parse_recipe(name).main.time.quantile(torch.arange(N + 1).double() / N)
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


@pytest.mark.slow
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
def test_no_batch_predicts_or_shows_more_than_its_bound_and_one_nearly_as_many(case, n, length):
    """Sample by sample, also where every rate is at an end of its stratum."""
    recipe = parse_recipe(case[0])
    fixed = MASKINGS["fixed-count"]()
    main = dataclasses.replace(recipe.main, masking=fixed, paired=False)
    recipe = dataclasses.replace(recipe, main=main)
    u = torch.rand(n, length, generator=torch.Generator().manual_seed(0))
    for step in range(3):
        for portion in portions(recipe, step, slots=torch.arange(n), batch_size=n):
            most = portion.objective.most_predicted(portion.u_at_most, length)
            if most is None:  # Bernoulli masks of the companion `standard`
                continue
            shown = portion.objective.most_visible(portion.u_at_least, length)
            assert (portion.u <= portion.u_at_most).all() and (most <= length).all()
            assert (portion.u_at_least <= portion.u).all() and (shown >= 0).all()
            rows = u[portion.slots]
            for valid in (length, length // 2, max(length - 1, 1)):
                within = (torch.arange(length) < valid).expand(len(rows), -1)
                predicted = portion.objective.masking.mask(portion.t, rows, within).sum(dim=1)
                assert (predicted <= most).all() and (valid - predicted <= shown).all()
    below = torch.arange(n).double() / n  # rates as great as the bound's
    t = main.rates((below - 2.0**-53).clamp(min=0))
    reached = fixed.mask(t, u, None).sum(dim=1)
    assert (main.most_predicted(below, length) - reached <= 1)[1:].all()
    reached = length - fixed.mask(main.rates(below), u, None).sum(dim=1)
    assert (main.most_visible(below, length) - reached <= 1).all()


def test_only_where_the_masking_counts_is_there_a_bound():
    bounds = {
        name: portion.objective.most_predicted(portion.u_at_most, 128)
        for name in ("bell", "bell:masking=fixed-count", "ar")
        for portion in portions(name)
    }
    assert bounds["bell"] is None
    assert (bounds["ar"] == 128).all()
    assert int(bounds["bell:masking=fixed-count"].sum()) < 128 * N * 0.54  # 0.5 on average


@pytest.mark.parametrize(
    "name", ["mirror", "narrow-pairs", "bell:paired=true,mean=0.2,stratified=false"]
)
def test_a_pair_is_one_sequence_at_a_rate_and_at_the_rest_of_it(name):
    for step in range(30):
        (portion,) = portions(name, step)
        assert portion.n_sequences == N // 2
        assert torch.equal(portion.sequences.bincount(), torch.full((N // 2,), 2))
        assert ((portion.t > 0) & (portion.t < 1)).all()
        assert torch.equal(portion.t[1::2], 1 - portion.t[::2])
    with pytest.raises(UserError, match="batch size 7 is odd"):
        parse_recipe(name).check_batch_size(7)


def test_pairs_have_weights_at_every_rate():
    """Even where a distribution draws a rate of 1, whose complement would mask nothing."""
    main = Denoising(Uniform(), weight="1/t", paired=True)
    t = main.rates(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert main.weights(torch.cat([t, 1 - t])).isfinite().all() and (t < 1).all()


def test_rates_of_pairs_follow_the_symmetrised_distribution_and_its_weight_stays_unbiased():
    """E[w(t) t g(t)] over the rates of pairs is the integral of g for importance weights."""
    name = "narrow-pairs:mean=0.3,std=0.3,weight=importance"
    t = torch.cat([times(name, step) for step in range(300)]).double()
    weights = parse_recipe(name).main.weights(t)
    for power in (0, 1, 2):
        estimate = float((weights * t * t**power).mean())
        assert estimate == pytest.approx(1 / (power + 1), rel=0.02)


def test_an_annealed_bell_ends_uniform():
    recipe = parse_recipe("narrow:uniform=0@0.5/1@1")
    assert [o for o, _, _ in recipe.divided(50, 100)] == [recipe.main]
    uniform, main = recipe.divided(75, 100)
    assert uniform == (Denoising(Uniform()), 0.0, 0.5) and main == (recipe.main, 0.5, 1.0)
    drawn = torch.cat([p.t for s in range(75, 76) for p in portions(recipe, s, seed=0)])
    assert len(drawn) == N
    low = [p.t for seed in range(200) for p in portions(recipe, 75, seed)]
    share = float((torch.cat(low).double() < 0.2).double().mean())
    assert share == pytest.approx(0.1, abs=0.005)  # the uniform half's
    assert recipe.divided(99, 100)[0][2] == pytest.approx(0.98)


def test_a_warm_up_is_causal_for_its_share_of_the_steps():
    recipe = parse_recipe("narrow-after-ar:next-token=1@0.25/0@0.25")
    assert recipe.start_symbol and not recipe.causal
    kinds = [[o.causal for o, _, _ in recipe.divided(step, 10)] for step in range(10)]
    assert kinds == [[True]] * 3 + [[False]] * 7
    (portion,) = portions(recipe, 0)
    assert (portion.t == 1).all() and torch.equal(portion.slots, SLOTS)


def test_one_objective_at_a_step_is_the_same_under_both_kinds_of_mixing():
    for step in (0, 30):
        for one, other in zip(
            portions("fast", step), portions("fast:mix=steps", step), strict=True
        ):
            assert one.objective == other.objective
            assert all(torch.equal(a, b) for a, b in zip(one[1:3], other[1:3], strict=True))
            assert torch.equal(one.u, other.u) and torch.equal(one.t, other.t)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_every_run_of_steps_has_nearly_its_share(share):
    recipe = parse_recipe(f"bell:next-token={share},mix=steps")
    causal = torch.tensor([recipe.divided(step, 5000)[0][0].causal for step in range(5000)])
    counted = torch.cat([torch.zeros(1), causal.cumsum(0)])
    for n in (1, 2, 3, 7, 10, 32, 100, 999):
        of_run = counted[n:] - counted[:-n]
        assert float((of_run - share * n).abs().max()) < 3


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_every_batch_and_micro_batch_has_nearly_its_share(share):
    for step in range(20):
        first, second = portions(
            f"bell:next-token={share}", step, batch_size=64, slots=torch.arange(64)
        )
        assert abs(len(first.slots) - 64 * share) <= 1
        assert torch.equal(torch.cat([first.slots, second.slots]).sort().values, torch.arange(64))
        for part in torch.arange(64).split(16):
            assert abs(len(first.among(part).slots) - 16 * share) <= 2.5
        # What is left of u is as even as it was.
        assert float((second.u.sort().values.diff()).max()) < 2.1 / len(second.u)


def test_a_mixed_batch_is_a_function_of_the_counters_alone():
    recipe = parse_recipe("bell:next-token=0.3,standard=0.2")
    whole = {p.objective: p for p in portions(recipe)}
    assert len(whole) == 3
    for part in (SLOTS[:11], SLOTS[11:]):
        for portion in portions(recipe, slots=part):
            same = whole[portion.objective].among(part)
            assert torch.equal(same.slots, portion.slots) and torch.equal(same.u, portion.u)


def test_companions_are_made_of_the_main_objective():
    recipe = parse_recipe("fast:next-token=0.1,uniform=0.2,standard=0.3")
    causal, uniform, standard, main = recipe.objectives
    assert causal == NextToken()
    assert uniform == Denoising(Uniform(), Scattered())
    assert standard == RECIPES["standard"].main
    assert main == RECIPES["fast"].main


@given(shares())
@settings(max_examples=200, deadline=None, derandomize=True)
def test_a_share_reads_back_and_is_linear_between_its_points(share):
    assert Share.parse(str(share)) == share
    for step in range(0, 101, 7):
        assert 0 <= share.at(step, 101) <= 1
    for (a, p), (b, q) in zip(share.points, share.points[1:], strict=False):
        if q - p > 0.01:
            middle = share.limits((p + q) / 2)
            assert middle == pytest.approx(((a + b) / 2,) * 2)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.3", [0.3, 0.3, 0.3, 0.3, 0.3]),
        ("1@0.2/0@0.2", [1, 0, 0, 0, 0]),
        ("1@0/0@0.6", [1, 2 / 3, 1 / 3, 0, 0]),
        ("1@0/0.1@0.6", [1, 0.7, 0.4, 0.1, 0.1]),
        ("0@0.8/1@1", [0, 0, 0, 0, 0]),
        ("0@0.4/1@0.8", [0, 0, 0, 0.5, 1]),
        ("1@2steps/0@2steps", [1, 1, 0, 0, 0]),
        ("1@0steps/0@4steps", [1, 0.75, 0.5, 0.25, 0]),
        ("1@0steps/0.5@8steps", [1, 0.9375, 0.875, 0.8125, 0.75]),
    ],
)
def test_shares_at_fifths_of_the_training(text, values):
    share = Share.parse(text)
    assert [share.at(step, 5) for step in range(5)] == pytest.approx(values)
    assert str(share) == text


def test_one_share_has_one_spelling():
    for text in ("0.30", "0.3@0/0.3@1", "0.3@0.5", "0.3@0/0.3@0.2/0.3@0.2/0.3@1"):
        assert str(Share.parse(text)) == "0.3"
    assert str(Share.parse("1.0@0/1@0.2/0@0.2/0@1")) == "1@0.2/0@0.2"
    assert str(Share.parse("1@0steps/1@20steps/0@020steps")) == "1@20steps/0@20steps"
    assert Share.parse("0.3@40steps") == Share.parse("0.3")


def test_shares_at_steps_and_at_progress():
    """A start of so many steps is that in a run of any length; the first named go before."""
    recipe = parse_recipe("fast:next-token=1@400steps/0@400steps,uniform=0@0.5/1@1")
    for steps in (500, 20_000):
        causal = [recipe.divided(k, steps)[0][0].causal for k in (0, 399, 400, steps - 1)]
        assert causal == [True, True, False, False]
    late = [start for objective, start, _ in recipe.divided(450, 500) if objective == recipe.main]
    assert late == [pytest.approx(0.8)]
    assert parse_recipe(recipe.spec()) == recipe


@pytest.mark.parametrize(
    ("steps", "left"), [(400, False), (401, True), (100, False), (20_000, True)]
)
def test_a_run_of_next_tokens_alone_is_refused(steps, left):
    options = {"recipe": "fast:next-token=1@400steps/0@400steps", "train": {"steps": steps}}
    if left:
        assert "next-token=1@400steps/0@400steps" in Config(**options).recipe
    else:
        with pytest.raises(UserError, match=rf"fast has no step left of the run's {steps} steps"):
            Config(**options)


def test_adding_a_companion_is_one_entry(monkeypatch):
    monkeypatch.setitem(
        COMPANIONS, "wide", lambda main: dataclasses.replace(main, time=Uniform(0.2, 0.8))
    )
    recipe = parse_recipe("narrow:wide=0.25")
    assert parse_recipe(recipe.spec()) == recipe
    wide, _ = portions(recipe)
    assert len(wide.slots) == N // 4 and float(wide.t.min()) >= 0.2
    assert wide.objective.masking == Bernoulli()


@pytest.mark.parametrize(
    "text",
    [*RECIPES, "bell:mean=0.4", "fast:next-token=0", "bell:masking=scattered,neighbours=-0.9"],
)
def test_the_short_spelling_is_what_the_name_does_not_say(text: str) -> None:
    in_full = parse_recipe(text).spec()
    assert short_spelling(in_full) == text
    assert parse_recipe(short_spelling(in_full)).spec() == in_full
