"""The benchmark for a GPU, at a toy size on whatever is here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_it_measures_steps_and_compares_recipes(tmp_path: Path) -> None:
    out = tmp_path / "out"
    subprocess.run(
        [ROOT / "benchmarks/gpu.sh", out],
        check=True,
        cwd=ROOT,
        env={**os.environ, "TOY": "1", "PYTHON": sys.executable},
        stdout=subprocess.DEVNULL,
    )
    found = json.loads((out / "step.json").read_text())
    assert found["ours"]["times_ours"] == [1, 1, 1] and found["rounds"] >= 3
    for name in ("ours", "naive", "published"):
        assert found[name]["tokens_per_second"] > 0
    compared = json.loads((out / "compare/comparison.json").read_text())
    assert [arm["name"] for arm in compared["recipes"]] == ["standard", "bell", "fast"]
    assert compared["recipes"][1]["levels"][0]["flops_ratio"] is not None
