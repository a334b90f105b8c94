"""Choose among the recipes of a comparison on one half of the validation blocks, report the other.

    .venv/bin/python benchmarks/halves.py runs/sweep-bpe
    .venv/bin/python benchmarks/halves.py runs/laboratory-bpe --groups

The arm that is best of many on some blocks is partly the luckiest on them. Even-numbered validation
blocks therefore choose, odd-numbered ones tell how good the choice is. Per arm: the final NELBO on
both halves (mean over seeds), then, on the reporting half alone, the difference from the baseline
(paired by seed and block; +- is the standard error over blocks, mean over seeds) and the speed-up
in steps at the baseline's NELBO at 50 and 100% of its steps, with a 95% interval over seeds if
there are several. Sorted by the choosing half. With --groups: what each recipe changes, its seeds,
and the speed-up in seconds too, which is only worth something on a machine with nothing else to do.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from unmask.compare.statistics import Curve, Ratio, paired_difference, speed_up
from unmask.train.metrics import BLOCKS, METRICS, read_records

Evaluations = list[dict[str, Any]]


def evaluations(run: Path, half: int) -> Evaluations:
    """Every evaluation of a run on the blocks of one parity."""
    return [
        {"step": r["step"], "nats": r["nats"][half::2], "tokens": r["tokens"][half::2]}
        for r in read_records(run / BLOCKS)
    ]


def nelbo(evaluation: dict[str, Any]) -> float:
    """Nats per token of one evaluation."""
    return float(sum(evaluation["nats"]) / sum(evaluation["tokens"]))


def curve(run: Path, evaluated: Evaluations) -> Curve:
    """The learning curve on those blocks."""
    seconds = [r["seconds"] for r in read_records(run / METRICS) if r["kind"] == "eval"]
    return Curve([e["step"] for e in evaluated], seconds, [nelbo(e) for e in evaluated])


def row(baseline: list[Path], mine: list[Path]) -> dict[str, Any]:
    """The numbers of one arm against the baseline, over the seeds that both have."""
    seeds = {run.name for run in mine} & {run.name for run in baseline}
    mine, baseline = ([r for r in runs if r.name in seeds] for runs in (mine, baseline))
    choosing = [nelbo(evaluations(run, 0)[-1]) for run in mine]
    theirs, ours = ([evaluations(run, 1) for run in runs] for runs in (baseline, mine))
    pairs = [
        paired_difference(b[-1]["nats"], a[-1]["nats"], a[-1]["tokens"])
        for a, b in zip(theirs, ours, strict=True)
    ]
    curves = [
        [curve(run, e) for run, e in zip(runs, evaluated, strict=True)]
        for runs, evaluated in ((baseline, theirs), (mine, ours))
    ]
    return {
        "choosing": sum(choosing) / len(choosing),
        "reporting": sum(nelbo(e[-1]) for e in ours) / len(ours),
        "difference": tuple(sum(column) / len(column) for column in zip(*pairs, strict=True)),
        "speed": [speed_up(curves[0], curves[1], percent)[1] for percent in (50, 100)],
        "seconds": speed_up(curves[0], curves[1], 100)[2],
        "seeds": len(seeds),
    }


def shown(ratio: Ratio) -> str:
    """A speed-up as text."""
    if ratio.value is None:
        return "not reached"
    interval = "" if ratio.low is None else f" [{ratio.low:.2f}, {ratio.high:.2f}]"
    return f"{ratio.value:.2f}x{interval}"


def main() -> None:
    """Print the table of a comparison's folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of a comparison")
    parser.add_argument("--groups", action="store_true", help="groups, seeds and seconds too")
    args = parser.parse_args()
    folder = args.folder
    summary = json.loads((folder / "comparison.json").read_text())
    runs = {
        r["name"]: [folder / r["folder"] / f"seed-{s['seed']}" for s in r["runs"]]
        for r in summary["recipes"]
        if all(s["state"] == "done" for s in r["runs"])
    }
    rows = {name: row(runs[summary["baseline"]], folders) for name, folders in runs.items()}
    groups = {r["name"]: r.get("group", "") for r in summary["recipes"]}
    more = " in seconds | changes | seeds |" if args.groups else ""
    print(f"| recipe | NELBO, choosing | NELBO, reporting | difference | at 50% | at 100% |{more}")
    print("|---" * (6 + more.count("|")) + "|")
    for name, r in sorted(rows.items(), key=lambda item: item[1]["choosing"]):
        value, error = r["difference"]
        speed = " | ".join(shown(ratio) for ratio in r["speed"])
        print(
            f"| `{name}` | {r['choosing']:.3f} | {r['reporting']:.3f} | "
            f"{value:+.3f} ± {error:.3f} | {speed} |"
            + (f" {shown(r['seconds'])} | {groups[name]} | {r['seeds']} |" if args.groups else "")
        )


if __name__ == "__main__":
    main()
