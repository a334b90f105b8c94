"""``unmask compare --minutes``: as many steps as a machine has time for."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from unmask.compare import duration
from unmask.compare.arms import parse_arms
from unmask.compare.duration import Cost, arms_within, steps_within
from unmask.compare.launch import threads_each
from unmask.config import Config, save_config, with_options

Call = Callable[..., tuple[int, str]]


def test_a_run_takes_the_time_it_is_given() -> None:
    # 100 s less 5 to start and 21 evaluations of a second: 74 s for steps of 0.1 s.
    assert steps_within(100, Cost(5, 0.1, 1.0)) == (740, 37)
    # 21 evaluations of 5 s would be over a quarter of 95 s: 4 of them, that of the start included.
    assert steps_within(100, Cost(5, 0.1, 5.0)) == (750, 250)


@given(st.floats(1, 1e5), st.floats(0, 60), st.floats(1e-3, 100), st.floats(1e-3, 100))
def test_no_run_takes_longer_than_the_time_or_20_steps(
    seconds: float, start: float, step: float, evaluation: float
) -> None:
    steps, every = steps_within(seconds, Cost(start, step, evaluation))
    points, rest = divmod(steps, every)
    assert rest == 0 and 1 <= points <= 20 and steps >= 20
    whole = start + steps * step + (points + 1) * evaluation
    assert whole <= seconds or steps == 20
    assert points == 1 or (points + 1) * evaluation <= 0.25 * (seconds - start) * (1 + 1e-9)
    if steps > 20:  # another step between evaluations would be too many
        assert whole + points * step > seconds * (1 - 1e-9)


def test_the_steps_follow_from_the_cost_and_a_repeated_command_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arms = parse_arms("standard,bell,ar", Config())
    out = io.StringIO()

    def steps(minutes: float) -> set[tuple[int, int]]:
        new = arms_within(minutes, arms, 1, tmp_path, 2, Console(file=out))
        assert list(new) == list(arms)
        return {(config.train.steps, config.validation.every) for config in new.values()}

    monkeypatch.setattr(duration, "_measure", lambda config, jobs: Cost(5, 0.1, 1.0))
    # Three runs, two at once: each has half of the time.
    assert steps(200 / 60) == {(740, 37)}
    assert "740 steps for each run: one takes 100 ms here, so all of it about 3.3" in out.getvalue()

    def never(config: object, jobs: int) -> Cost:
        raise AssertionError("timed again")

    monkeypatch.setattr(duration, "_measure", never)
    run = tmp_path / "bell" / "seed-0" / "config.yaml"
    run.parent.mkdir(parents=True)
    save_config(with_options(Config(), {"train.steps": 60, "validation.every": 7}), run)
    assert steps(50) == {(60, 7)}
    assert "60 steps, as the runs that are there" in out.getvalue()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--minutes", 0.05], "--minutes: input should be greater than or equal to 0.1"),
        (["--minutes", "nan"], "--minutes"),
        (["--minutes", 1, "--recipes", "standard,bell+train.steps=9"], "--minutes: it sets"),
    ],
)
def test_what_cannot_be_is_refused(
    unmask: Call, small: list[str], tmp_path: Path, options: list[object], said: str
) -> None:
    status, text = unmask("compare", "--run", tmp_path / "cmp", *small, *options)
    assert status == 2 and said in text.replace("\n", " ")
    assert not (tmp_path / "cmp").exists()


def steps_of(folder: Path) -> list[tuple[int, int]]:
    """The last step of each run, and how often it was evaluated."""
    found = []
    for path in sorted(folder.glob("*/seed-*/metrics.jsonl")):
        records = map(json.loads, path.read_text().splitlines())
        steps = [record["step"] for record in records if record["kind"] == "eval"]
        found.append((steps[-1], len(steps)))
    return found


@pytest.mark.slow
def test_a_step_is_timed_here_and_a_repeated_command_goes_on(
    unmask: Call, small: list[str], tmp_path: Path
) -> None:
    command = ["compare", "--run", tmp_path / "cmp", "--recipes", "standard,bell", *small]
    command += ["--jobs", 2, "--minutes"]
    status, text = unmask(*command, 0.2)
    assert status == 0 and "steps for each run: one takes" in text
    first = steps_of(tmp_path / "cmp")
    assert len(set(first)) == 1 and first[0] >= (20, 2)
    status, text = unmask(*command, 50)
    assert status == 0 and "as the runs that are there" in text
    assert steps_of(tmp_path / "cmp") == first


@pytest.mark.parametrize(
    ("wanted", "jobs", "threads"),
    [("", 2, 4), ("1", 2, 1), ("6", 2, 4), ("3", 1, 3), ("many", 4, 2), ("0", 4, 2), ("", 16, 1)],
)
def test_runs_share_the_cores_and_keep_to_what_the_user_allows(
    wanted: str, jobs: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    assert threads_each(jobs) == threads
