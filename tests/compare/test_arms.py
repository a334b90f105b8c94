"""How the arms of a comparison are written."""

import pytest

from unmask.base.errors import UserError
from unmask.compare import parse_arms
from unmask.config import Config
from unmask.recipe import RECIPES


def test_commas_separate_arms_and_parameters() -> None:
    text = "standard,bell:mean=0.35,std=0.15,bell+train.optimizer=muon+train.batch-size=8,flat"
    arms = parse_arms(text, Config())
    assert [arm.name for arm in arms] == [
        "standard",
        "bell:mean=0.35,std=0.15",
        "bell+train.optimizer=muon+train.batch-size=8",
        "flat",
    ]
    assert "mean=0.35,std=0.15" in arms[1].config.recipe
    assert arms[2].config.train.optimizer == "muon" and arms[2].config.train.batch_size == 8
    assert arms[0].config.train == Config().train


def test_folders_are_plain_and_different() -> None:
    names = "standard,bell,bell:mean=0.4,bell:mean=0.45,bell+train.optimizer=muon"
    folders = [arm.folder for arm in parse_arms(names, Config())]
    assert folders[:2] == ["standard", "bell"]
    assert len(set(folders)) == 5
    assert all(set('/\\:*?"<>|+ ').isdisjoint(folder) for folder in folders)


def test_all_stands_for_every_named_recipe_and_the_corpus_s_bell() -> None:
    arms = parse_arms("all", Config())
    assert [arm.name for arm in arms] == [*RECIPES, "bell:auto"]
    assert arms[0].name == "standard"


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
