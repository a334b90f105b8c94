"""Comparisons to make reports of."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib
import pytest
from made_up import made_up

from unmask.compare.report.page import write_report


@pytest.fixture
def comparison(tmp_path: Path) -> Callable[..., Path]:
    """Make the folder of a comparison, as `made_up`."""
    return partial(made_up, tmp_path / "cmp")


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison whose report is drawn; not to be changed."""
    folder = made_up(tmp_path_factory.mktemp("drawn") / "cmp")
    before = dict(matplotlib.rcParams)
    write_report(folder)
    assert dict(matplotlib.rcParams) == before  # matplotlib is left as it was
    return folder
