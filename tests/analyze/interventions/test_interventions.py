"""``unmask analyze interventions``: what a transform changes, seed by seed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from unmask.analyze.interventions.study import common_seeds, conclusion, effects
from unmask.compare.records import Arm, Comparison, RunRecord

Call = Callable[..., tuple[int, str]]


def arm(name: str, index: int, halves: list[float], end: float, causal: bool = False) -> Arm:
    """A bound that falls linearly from 6: at 100 steps it is ``end``; seeds differ in speed."""
    runs = []
    for seed, speed in enumerate(halves):
        evals: list[dict[str, Any]] = [
            {"step": s, "seconds": float(s), "nelbo": max(6 - speed * s / 100, end)}
            for s in range(0, 101, 5)
        ]
        runs.append(RunRecord(seed, Path(name), "done", None, evals, []))
    return Arm(name, Path(name), index, name, "time", causal, runs)


def comparison(*arms: Arm) -> Comparison:
    return Comparison(Path(), list(arms), [0, 1], {}, {})


def test_effects_of_curves_whose_ratios_are_known() -> None:
    before = comparison(
        arm("standard", 0, [1, 2], 0), arm("bell", 1, [2, 4], 0), arm("ar", 2, [4, 8], -9, True)
    )
    after = comparison(
        arm("standard", 0, [1, 1], 0), arm("bell", 1, [1.5, 1.5], 0), arm("ar", 2, [0.5] * 2, 0)
    )
    assert common_seeds(before, after) == [0, 1]
    bell, ar = effects(before, after)
    assert bell["difference"]["with"]["values"] == pytest.approx([-1, -2])
    assert bell["difference"]["without"]["values"] == pytest.approx([-0.5, -0.5])
    assert bell["difference"]["change"]["mean"] == pytest.approx(1.0)
    last = bell["speed_up"][-1]
    assert last["percent"] == 100
    assert last["with"]["mean"] == pytest.approx(2)
    assert last["without"]["mean"] == pytest.approx(1.5)
    assert last["change"]["values"] == pytest.approx([0.75, 0.75])
    assert last["change"]["low"] == pytest.approx(0.75)
    # The slower twin never gets where the baseline ends: told so, not left out.
    assert ar["speed_up"][-1]["without"] == {
        "values": [None, None], "mean": None, "low": None, "high": None,
    }  # fmt: skip
    assert ar["speed_up"][-1]["change"]["mean"] is None
    assert ar["speed_up"][-1]["with"]["mean"] == pytest.approx(4)


def record(gap: tuple[float, float], change: tuple[float, float] | None, base: float) -> Any:
    """A record with a gap before and after, the change's interval, and the second baseline."""
    mean = gap[1] - gap[0]
    low, high = change or (None, None)
    difference = {
        "with": {"mean": gap[0]},
        "without": {"mean": gap[1]},
        "change": {"mean": mean, "low": low, "high": high},
    }
    speed = [{"percent": 100, "with": {"mean": 2.0}, "without": {"mean": None}}]
    return {
        "transforms": ["none", "permute-positions"],
        "unigram": 3.0,
        "settings": [
            {"recipes": [{"name": "standard", "final": {"mean": value}}]} for value in (2.0, base)
        ],
        "effects": [
            {"recipe": name, "causal": name == "ar", "difference": difference, "speed_up": speed}
            for name in ("bell", "ar")
        ],
    }


@pytest.mark.parametrize(
    ("gap", "change", "base", "words"),
    [
        ((-0.5, -0.1), (0.3, 0.5), 2.2, ["the gap shrinks (change +0.400 [+0.300, +0.500])"]),
        ((-0.5, -0.9), (-0.5, -0.3), 2.2, ["the gap grows"]),
        ((-0.5, 0.2), (0.5, 0.9), 2.2, ["the gap changes sign"]),
        ((-0.5, -0.4), (-0.1, 0.3), 2.2, ["does not clearly change"]),
        ((-0.5, -0.1), None, 2.9, ["shrinks (one seed: no interval)", "too little is learnt"]),
    ],
)
def test_the_conclusion_says_what_is_found(
    gap: tuple[float, float], change: tuple[float, float] | None, base: float, words: list[str]
) -> None:
    lines = conclusion(record(gap, change, base))
    assert len(lines) == 2
    for said in words:
        assert said in " ".join(lines)
    assert ("too little" in lines[1]) == (base == 2.9)
    assert "2.00 times as soon with none, not within its run with permute-positions" in lines[1]


@pytest.mark.usefixtures("in_process", "unrendered")
def test_the_experiment_runs_twice_and_uses_its_runs_again(
    unmask: Call, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "why"
    command = [
        *("analyze", "interventions", "--run", folder, *small, "--jobs", 2),
        *("--train.steps", 6, "--validation.every", 3, "--recipes", "standard,ar"),
    ]
    status, text = unmask(*command)
    assert status == 0, text
    found = json.loads((folder / "interventions.json").read_text())
    assert all(line in text for line in found["conclusion"])
    for transform in ("none", "permute-positions"):
        for recipe in ("standard", "ar"):
            config = (folder / transform / recipe / "seed-0/config.yaml").read_text()
            assert yaml.safe_load(config)["corpus"]["transform"] == transform
        assert (folder / transform / "report/index.html").is_file()
    assert [s["transform"] for s in found["settings"]] == ["none", "permute-positions"]
    finals = [{r["name"]: r["final"]["mean"] for r in s["recipes"]} for s in found["settings"]]
    order = found["other_order"][0]
    assert order["recipe"] == "ar"
    assert order["difference"]["mean"] == pytest.approx(finals[1]["ar"] - finals[0]["standard"])
    page = (folder / "index.html").read_text()
    assert page.count("<figure ") == 2 and page.count("<script") == 1
    assert {p.name for p in folder.glob("*.png")} == {"bounds.png", "changes.png"}

    before = {p: p.stat().st_mtime_ns for p in folder.rglob("metrics.jsonl")}
    assert len(before) == 4
    monkeypatch.setattr("unmask.plot.figure.draw", lambda *_: [])
    status, text = unmask(*command, "--out", tmp_path / "out", "--json")
    assert status == 0
    again = json.loads(text[text.index('{"kind"') :].split("\n")[0])
    assert again == found
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("metrics.jsonl")} == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--intervention", "shuffle"], "'shuffle'"),
        (["--intervention", "none"], "they must differ"),
        (["--recipes", "standard,bell"], "autoregressive twin"),
        (["--recipes", "ar,standard"], "begin with a recipe that masks"),
        (["--recipes", "standard"], "at least two"),
        (["--seeds", "0"], "--seeds"),
    ],
)
def test_bad_requests(
    options: list[str], said: str, unmask: Call, small: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "why"
    status, text = unmask("analyze", "interventions", "--run", folder, *small, *options)
    assert status == 2 and said in " ".join(text.split()), text
    assert not folder.exists()
