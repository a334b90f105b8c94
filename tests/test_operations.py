"""What `docs/operations.md` says is there: its tests, its statuses, its options."""

import re
import sys
from pathlib import Path

from unmask.cli.main import BAD_INPUT
from unmask.config import Config
from unmask.run import CONTINUABLE
from unmask.train.guard import WINDOW
from unmask.train.loop import TRAINING_FAILED
from unmask.train.signals import SIGNALS

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/operations.md").read_text()


def test_the_tests_that_it_names_are_there() -> None:
    named = set(re.findall(r"`((?:tests|configs)/[^`]+)`", PAGE))
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_its_numbers_are_those_of_the_code() -> None:
    assert (BAD_INPUT, TRAINING_FAILED) == (2, 3)
    statuses = sorted(128 + number for number in SIGNALS)
    assert statuses == [130, 138, 143] or sys.platform != "linux"
    train = Config().train
    assert f"`train.skip` in a row ({train.skip})" in PAGE and train.spike == 0
    assert f"The first {WINDOW} steps are not judged" in PAGE


def test_the_options_that_it_names_are_there_and_may_change_or_not() -> None:
    named = set(re.findall(r"`train\.(\w+)`", PAGE))
    assert {"skip", "spike", "save_every", "keep"} <= named
    assert named <= set(type(Config().train).model_fields)
    assert not {"train.skip", "train.spike"} & CONTINUABLE
    assert {"train.save_every", "train.keep"} <= CONTINUABLE
