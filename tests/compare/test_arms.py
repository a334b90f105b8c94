"""How the arms of a comparison are written."""

import pytest

from unmask.base.errors import UserError
from unmask.compare.arms import folder_name, parse_arms
from unmask.config import Config
from unmask.recipe.parse import RECIPES


def test_commas_separate_arms_and_parameters() -> None:
    text = "standard,bell:mean=0.35,std=0.15,bell+train.optimizer=muon+train.batch-size=8,flat"
    arms = parse_arms(text, Config())
    assert list(arms) == [
        "standard",
        "bell:mean=0.35,std=0.15",
        "bell+train.optimizer=muon+train.batch-size=8",
        "flat",
    ]
    standard, bell, muon, _ = arms.values()
    assert "mean=0.35,std=0.15" in bell.recipe
    assert muon.train.optimizer == "muon" and muon.train.batch_size == 8
    assert standard.train == Config().train


def test_folders_are_plain_and_different() -> None:
    names = "standard,bell,bell:mean=0.4,bell:mean=0.45,bell+train.optimizer=muon"
    folders = [folder_name(arm) for arm in parse_arms(names, Config())]
    assert folders[:2] == ["standard", "bell"]
    assert len(set(folders)) == 5
    assert all(set('/\\:*?"<>|+ ').isdisjoint(folder) for folder in folders)


def test_all_stands_for_every_named_recipe_and_the_corpus_s_bell() -> None:
    arms = parse_arms("all", Config())
    assert list(arms) == [*RECIPES, "bell:auto"]
    assert next(iter(arms)) == "standard"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("bell", "at least two"),
        ("", "at least two"),
        ("standard,standard", "twice"),
        ("standard,bel", "valid: "),
        ("standard,bell:meen=1", "meen"),
        ("standard,bell+train.optimizer=sgd", "adamw"),
        ("standard,bell+train.optimiser=muon", "train.optimiser"),
        ("standard,bell+fast", "option=value"),
    ],
)
def test_bad_arms(text: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_arms(text, Config())
    assert said in str(caught.value)
