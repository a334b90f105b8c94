"""``unmask analyze learnability`` on a small comparison."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.image import imread
from safetensors.torch import load_file

from unmask.analyze.learnability.study import all_plots, conclusion, spaced
from unmask.analyze.page import write_page

Call = Callable[..., tuple[int, str]]

SMALL = [
    *("--bins", 3, "--gradient-blocks", 3, "--gradient-masks", 2, "--steps", 2),
    *("--restarts", 2, "--blocks", 4, "--device", "cpu"),
]


@pytest.fixture
def folder(comparison_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the comparison, with the cache it was made with."""
    monkeypatch.setenv("UNMASK_CACHE", str(comparison_folder.parent / "cache"))
    return Path(shutil.copytree(comparison_folder, tmp_path / "cmp"))


@pytest.mark.usefixtures("unrendered")
def test_records_page_and_two_lines(folder: Path, unmask: Call, tmp_path: Path) -> None:
    out = tmp_path / "out"
    status, text = unmask(
        "analyze", "learnability", folder, "--out", out, *SMALL, "--checkpoints", 2
    )
    assert status == 0, text
    record = json.loads((out / "learnability.json").read_text())
    for line in record["conclusion"]:
        assert line in text
    assert len(record["conclusion"]) == 2
    assert record["checkpoints"] == [
        {"recipe": name, "seed": 0, "kept": [5, 10, 15, 20], "used": [10, 20]}
        for name in ("standard", "bell")
    ]

    # The curves are those of the evaluations, above the lowest of them all.
    curves = record["curves"]
    lines = (folder / "standard/seed-0/metrics.jsonl").read_text().splitlines()
    evals = [r for r in map(json.loads, lines) if r["kind"] == "eval"]
    standard = curves["recipes"][0]
    assert standard["steps"] == [0, 5, 10, 15, 20]
    assert standard["c_t"] == [r["c_t"] for r in evals]
    every = [c for recipe in curves["recipes"] for c in recipe["c_t"]]
    assert curves["lowest"] == [min(column) for column in zip(*every, strict=True)]
    for c_t, left in zip(standard["c_t"], standard["reducible"], strict=True):
        rest = [c - low for c, low in zip(c_t, curves["lowest"], strict=True)]
        assert left == pytest.approx(rest) and min(left) >= 0
    assert sum(standard["reducible_share"][0]) == pytest.approx(1)
    (twin,) = curves["causal"]
    assert twin["name"] == "ar"
    for nelbo, above, learnable in zip(
        standard["nelbo"], standard["reducible_area"], standard["learnable"], strict=True
    ):
        assert learnable == max(above, nelbo - twin["nelbo"])

    assert [(g["recipe"], g["step"]) for g in record["gradients"]] == [
        ("standard", 10), ("standard", 20), ("bell", 10), ("bell", 20),
    ]  # fmt: skip
    for gradient in record["gradients"]:
        for weight in ("flat", "1/t"):
            assert set(gradient["weights"][weight]) == {
                "embedding", "attention", "mlp", "head", "norms", "all",
            }  # fmt: skip
            assert len(gradient["weights"][weight]["all"]["snr"]) == 3
    for transfer in record["transfer"]:
        assert transfer["rows"][-1] == [0.0, 1.0] and len(transfer["change"]) == 4
        assert transfer["nelbo_change"][0] == pytest.approx(sum(transfer["change"][0]) / 3)
        assert transfer["learning_rate"] == 0.01

    page = (out / "index.html").read_text()
    plots = sorted(p.stem for p in out.glob("*.png"))
    assert page.count("<figure ") == len(plots) == 7 + 4
    assert page.count("<script") == 1 and 'src="http' not in page


@pytest.mark.slow
def test_a_remade_page_is_the_same_bytes(folder: Path, unmask: Call, tmp_path: Path) -> None:
    assert unmask("analyze", "learnability", folder, "--out", tmp_path, *SMALL)[0] == 0
    page = (tmp_path / "index.html").read_bytes()
    for plot in tmp_path.glob("*.png"):
        picture = imread(plot)
        assert picture.shape[1] == 1290 and picture[..., :3].std() > 0.02
    (tmp_path / "index.html").unlink()
    write_page(tmp_path / "learnability.json", all_plots)
    assert (tmp_path / "index.html").read_bytes() == page


@pytest.mark.usefixtures("unrendered")
def test_json_alone_and_no_learning_rate_changes_nothing(folder: Path, unmask: Call) -> None:
    before = {p: load_file(p) for p in folder.rglob("model.safetensors")}
    status, text = unmask(
        "analyze", "learnability", folder, *SMALL, "--json", "--learning-rate", 0,
        "--recipes", "bell",
    )  # fmt: skip
    assert status == 0
    record = json.loads(text[text.index("{") :].splitlines()[0])
    assert [t["recipe"] for t in record["transfer"]] == ["bell"]
    assert torch.tensor(record["transfer"][0]["change"]).abs().max() == 0
    assert (folder / "learnability/index.html").is_file()
    for path, tensors in before.items():  # nothing is written to the runs
        assert all(torch.equal(v, tensors[k]) for k, v in load_file(path).items())


def edit(path: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_what_cannot_be_analysed_is_told_in_a_line(
    folder: Path, unmask: Call, tmp_path: Path
) -> None:
    def said(*options: object) -> str:
        status, text = unmask("analyze", "learnability", *options, "--device", "cpu")
        assert status == 2 and "Traceback" not in text, text
        return " ".join(text.split())

    assert "neither plan.json" in said(tmp_path)
    assert "--restarts: input should be greater than or equal to 2, not 1" in said(
        folder, "--restarts", 1
    )
    assert "--gradient-blocks: input should be greater than or equal to 3" in said(
        folder, "--gradient-blocks", 2
    )
    assert "'bel'" in said(folder, "--recipes", "bel")
    assert "valid: bell, standard" in said(folder, "--recipes", "ar")
    shutil.rmtree(folder / "bell/seed-0/checkpoints")
    assert "bell/seed-0 has no checkpoints" in said(folder)
    edit(folder / "plan.json", lambda c: c["recipes"].__delitem__(slice(0, 2)))
    edit(folder / "plan.json", lambda c: c.update(baseline="ar"))
    assert "one recipe, ar" in said(folder)
    assert not (folder / "learnability").exists()


def test_the_corpus_must_be_the_one_that_was_learnt(folder: Path, unmask: Call) -> None:
    edit(folder / "standard/seed-0/corpus.json", lambda c: c.update(sha256="0" * 64))
    status, text = unmask("analyze", "learnability", folder, *SMALL)
    assert status == 2 and "no longer what" in text


def test_checkpoints_are_spread_and_end_with_the_last() -> None:
    assert spaced([5, 10, 15, 20], 2) == [10, 20]
    assert spaced([5, 10, 15], 1) == [15]
    assert spaced([5, 10], 9) == [5, 10]


def test_the_conclusion_names_the_rates() -> None:
    snr = {"all": {"snr": [0.1, None, 0.3, 0.4], "snr_stderr": [0.01, None, 0.05, 0.3]}}
    edges = [[0, 0.25], [0.25, 0.5], [0.5, 0.75], [0.75, 1]]
    record = {
        "curves": {
            "lowest": [1.0, 2.0, 3.0, 4.0],
            "lowest_area": 2.5,
            "causal": [{"name": "ar", "nelbo": 2.25}, {"name": "ar+x=1", "nelbo": 2.75}],
            "recipes": [
                {
                    "name": "standard", "steps": [0, 1500], "nelbo": [5.0, 2.75],
                    "learnable": [2.75, 0.5], "reducible_area": [2.0, 0.25],
                    "reducible_share": [None, [0.1, 0.2, 0.6, 0.1]],
                }
            ],
        },
        "gradients": [
            {"recipe": "standard", "bins": edges, "weights": {"flat": snr}},
        ],
        "transfer": [
            {
                "recipe": "standard", "step": 1500, "rows": [*edges, [0, 1]],
                "nelbo_change": [0.01, -0.02, -0.01, 0.0, -0.015],
                "nelbo_change_stderr": [0.001] * 5,
            }
        ],
        "budget": {"steps": 10},
    }  # fmt: skip
    first, second = conclusion(record)
    assert "step 1,500" in first and "at least 0.500" in first and "60%" in first
    assert "(ar has 2.250)" in first and "of the 0.250 above the lowest" in first
    assert "[0.5, 0.75]" in first
    assert (
        "clearest at t in [0.5, 0.75] (signal-to-noise 0.300 ± 0.050)" in second
        and "most at t in [0.25, 0.5]" in second
    )
    assert "-0.0200" in second and "-0.0150" in second


def test_analyses_are_listed_and_unknown_ones_told(unmask: Call) -> None:
    status, text = unmask("analyze", "--help")
    assert status == 0 and "learnability" in text and "interventions" in text
    status, text = unmask("analyze", "learnabilty")
    assert status == 2 and "did you mean 'learnability'" in text
    assert unmask("analyze") == unmask("analyze", "--help")
    assert unmask("analyze", "learnability", "--help")[0] == 0
