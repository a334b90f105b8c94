"""Runs and recipes from before recipes were compositions (commit 856971a): they open, evaluate,
sample and resume as they did, and every old recipe trains as it did.

The numbers are of float32 on a CPU with one thread. `expected.json` holds those of the runs beside
it, `losses.json` the first losses of a run with each old recipe, written out as `config.yaml` did.
"""  # noqa: D205

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from unmask.base.errors import UserError
from unmask.recipe.parse import RECIPES, parse_recipe
from unmask.run import open_run
from unmask.sample import SamplerOptions, sample

Call = Callable[..., tuple[int, str]]

HERE = Path(__file__).parent
EXPECTED: dict[str, dict[str, Any]] = json.loads((HERE / "expected.json").read_text())
LOSSES: dict[str, list[float]] = json.loads((HERE / "losses.json").read_text())
RHYME = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "one", "big", "dog", "run", "far"]
NEW_NAMES = {
    "bell-pairs": "narrow-pairs",
    "bell-spans": "narrow-spans",
    "bell-scattered": "narrow-scattered",
    "bell-puma": "narrow-puma",
    "bell-anneal": "narrow-anneal",
    "bell-after-ar": "narrow-after-ar",
}
NEW_SPELLINGS = {
    "narrow:time=truncated-normal,mean=0.5,std=0.1,low=0.0,high=1.0,weight=flat,masking=bernoulli,"
    "stratified=true,paired=false,ar_warmup=0.0,anneal=0.5,fit=none": "narrow:uniform=0@0.5/1@1",
    "fast:time=truncated-normal,mean=0.5,std=0.1,low=0.0,high=1.0,weight=flat,masking=scattered,"
    "stratified=true,paired=false,ar_warmup=0.5,anneal=0.0,fit=none": "fast:next-token=1@0.5/0@0.5",
    "narrow:time=truncated-normal,mean=0.5,std=0.1,low=0.0,high=1.0,weight=flat,masking=bernoulli,"
    "stratified=true,paired=false,ar_warmup=0.3,anneal=0.0,fit=none": (
        "narrow:next-token=1@0.3/0@0.3"
    ),
    "bell:time=truncated-normal,mean=0.5,std=0.2,low=0.0,high=1.0,weight=flat,masking=alternating,"
    "stratified=true,paired=false,ar_warmup=0.0,anneal=0.0,fit=none": (
        "bell:masking=scattered,neighbours=-0.9"
    ),
    "bell:time=truncated-normal,mean=0.5,std=0.2,low=0.0,high=1.0,weight=flat,masking=bernoulli,"
    "stratified=true,paired=true,ar_warmup=0.0,anneal=0.0,fit=none": "bell:paired=true",
    "bell:time=truncated-normal,mean=0.5,std=0.2,low=0.0,high=1.0,weight=flat,masking=spans,"
    "stratified=true,paired=false,ar_warmup=0.0,anneal=0.0,fit=none": "bell:masking=spans",
    "bell:time=truncated-normal,mean=0.5,std=0.2,low=0.0,high=1.0,weight=flat,masking=fixed-count,"
    "stratified=true,paired=false,ar_warmup=0.0,anneal=0.0,fit=none": "bell:masking=fixed-count",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the texts that the runs were trained on in ``rhymes``."""
    monkeypatch.chdir(tmp_path)
    texts = tmp_path / "rhymes"
    texts.mkdir()
    chance = random.Random(0)
    for number in range(60):
        start, words = chance.randrange(len(RHYME)), chance.randrange(50, 70)
        text = " ".join((RHYME * 6)[start : start + words])
        (texts / f"{number:03}.txt").write_text(text, encoding="utf-8")
    return tmp_path


def check(unmask: Call, run: Path, expected: dict[str, Any], texts: bool = True) -> None:
    """It is evaluated as expected, and sampled where its weights are so to the last digit."""
    status, text = unmask("evaluate", run, "--json")
    assert status == 0, text
    found = json.loads(text.splitlines()[0])  # before what went to stderr
    assert found["nelbo"] == pytest.approx(expected["nelbo"], rel=1e-4)
    assert found["stderr"] == pytest.approx(expected["stderr"], rel=1e-3)
    curve = expected["c_t"]
    assert found["c_t"] == (curve and pytest.approx(curve, rel=1e-2))  # an exact one has none
    found = sample(open_run(run), num=2, length=16, options=SamplerOptions(steps=16), seed=3)
    assert found == expected["texts"] or not texts


@pytest.mark.parametrize("name", EXPECTED)
def test_an_old_run_opens_evaluates_and_samples(name: str, folder: Path, unmask: Call) -> None:
    run = Path(shutil.copytree(HERE / name, folder / "run"))
    check(unmask, run, EXPECTED[name])


@pytest.mark.parametrize("name", [pytest.param("fast-warmup", marks=pytest.mark.slow), "adaptive"])
def test_an_old_run_resumes_where_it_was_stopped(name: str, folder: Path, unmask: Call) -> None:
    """In the midst of a phase, or of what was fitted; told to go on in old words.

    An autoregressive phase now reads one token less, whose rounding grows over the steps.
    """
    run, expected = Path(shutil.copytree(HERE / name, folder / "run")), EXPECTED[name]["resumed"]
    recipe = yaml.safe_load((run / "config.yaml").read_text())["recipe"]
    before = len((run / "metrics.jsonl").read_text().splitlines())
    config = ["--config", run / "config.yaml", "--recipe", recipe]
    status, text = unmask("train", "--run", run, "--resume", *config)
    assert status == 0, text
    new = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()[before:]]
    trains = [r for r in new if r["kind"] == "train"]
    losses = [r["loss"] for r in trains]
    assert losses[:10] == pytest.approx(expected["losses"][:10], rel=1e-5)
    assert losses == pytest.approx(expected["losses"], rel=1e-3)
    assert [r["rate_mean"] for r in trains] == pytest.approx(expected["rates"], rel=1e-5)
    bounds = [r["nelbo"] for r in new if r["kind"] == "eval"]
    assert bounds == pytest.approx(expected["bounds"], rel=1e-4)
    check(unmask, run, expected, texts=name != "fast-warmup")
    assert parse_recipe(recipe).spec() in (run / "config.yaml").read_text()


def test_every_old_recipe_opens_as_the_new_one_of_its_kind() -> None:
    for spec in LOSSES:
        name = spec.partition(":")[0]
        expected = parse_recipe(NEW_SPELLINGS.get(spec, NEW_NAMES.get(name, name)))
        assert parse_recipe(spec) == expected, spec
    named = {spec.partition(":")[0] for spec in LOSSES}
    assert {NEW_NAMES.get(name, name) for name in named} == set(RECIPES)


def test_an_autoregressive_recipe_under_any_name_is_one() -> None:
    """What counted as causal by its name alone."""
    spec = next(spec for spec in LOSSES if spec.startswith("ar:"))
    assert parse_recipe(spec.replace("ar:", "flat:")).causal


def test_an_anneal_that_began_in_the_warm_up_has_its_rest() -> None:
    spec = next(spec for spec in LOSSES if "ar_warmup=0.5" in spec)
    recipe = parse_recipe(spec.replace("anneal=0.0", "anneal=0.75"))
    assert str(recipe.shares["uniform"]) == "0@0.5/0.333333333333@0.5/1@1"
    assert [o.causal for o, _, _ in recipe.divided(4, 10)] == [True]


@pytest.mark.parametrize("old", NEW_NAMES)
def test_an_old_name_is_told_the_new_one(old: str) -> None:
    for rest in ("", ":mean=0.4,weight=1/t"):
        with pytest.raises(UserError, match=f"'{NEW_NAMES[old]}{rest}'"):
            parse_recipe(old + rest)


def _tolerance(spec: str) -> float:
    """Relative; None of these may change more, and only these for a reason that is known.

    Own-order masks have their rounding from noise of its own. The complement's rate of a pair is
    no longer rounded. An anneal's two parts are each normalised exactly; the normaliser of
    their mixture was off by 1.5 parts in 10,000. In all of them Muon's products in bfloat16 are
    rounded in another order on another kind of CPU: 1.3 parts in 100,000 were seen.
    """
    if "own-order" in spec:
        return 0.5
    return 2e-4 if "anneal=0.0" not in spec else 4e-5


FEW = ("fast", "bell-anneal", "mirror")
"""Recipes trained in every run of the tests; the others with the slow ones."""


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(spec, marks=[] if spec.partition(":")[0] in FEW else [pytest.mark.slow])
        for spec in LOSSES
    ],
)
def test_an_old_recipe_trains_as_it_did(spec: str, folder: Path, unmask: Call) -> None:
    options = [
        *("--corpus.source", "rhymes", "--corpus.block-size", 32, "--corpus.valid-fraction", 0.15),
        *("--model.layers", 1, "--model.width", 16, "--model.heads", 2),
        *("--train.steps", 12, "--train.batch-size", 8, "--train.warmup-steps", 2),
        *("--train.optimizer", "muon", "--train.learning-rate", 8e-3, "--train.log-every", 1),
        *("--train.device", "cpu", "--train.precision", "fp32", "--validation.every", 12),
    ]
    status, text = unmask("train", "--run", "run", *options, "--recipe", spec)
    assert status == 0, text
    lines = map(json.loads, Path("run/metrics.jsonl").read_text().splitlines())
    losses = [line["loss"] for line in lines if line["kind"] == "train"]
    assert losses == pytest.approx(LOSSES[spec], rel=_tolerance(spec))
