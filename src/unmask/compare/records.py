"""What a comparison's folder holds: its plan, its runs' records, and all that follows from them.

DIR/plan.json             the arms in order, their folders and seeds: what no run's folder tells
DIR/<arm>/seed-<s>/       a run: config.yaml, corpus.json, metrics.jsonl, blocks.jsonl, perhaps
                          samples.json and quality.jsonl; weights are not looked at

Every number of a comparison is computed here from these records. Parts may be missing or damaged.
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from unmask.base.errors import UserError, unknown
from unmask.compare.statistics import Curve, Spread, paired_difference, speed_up, spread
from unmask.config import Config, load_config
from unmask.recipe.parse import parse_recipe
from unmask.train.metrics import BLOCKS, METRICS, read_records

Record = dict[str, Any]
Blocks = Literal["all", "even", "odd"]

PLAN = "plan.json"
COMPARISON = "comparison.json"
QUALITY = "quality.jsonl"
SAMPLES = "samples.json"

LEVELS = (25, 50, 75, 100)
"""Percentages of the baseline's steps at whose NELBO speed-ups are measured."""

OTHER_HALF: dict[Blocks, Blocks] = {"even": "odd", "odd": "even"}
_PLACES = {"all": slice(None), "even": slice(0, None, 2), "odd": slice(1, None, 2)}


@dataclass(frozen=True)
class RunRecord:
    """The records of one recipe trained with one seed.

    Attributes:
        seed: its seed.
        folder: where it lies.
        state: ``done``, or how it ended otherwise; ``no records`` where nothing can be read.
        config: its configuration; None where that cannot be read.
        evals: its evaluations, by increasing step, on the blocks that were asked for (``c_t``
            always on all of them).
        trains: its training lines, by increasing step.
        blocks: for each evaluation, ``nats`` and ``tokens`` of every validation block.
        quality: what ``unmask compare --evaluate`` measured at its checkpoints, by increasing step:
            ``kind`` is ``corpus`` (likelihood of another text) or ``generative``.
        damaged: lines of its records that could not be read and are left out.
    """

    seed: int
    folder: Path
    state: str
    config: Config | None
    evals: list[Record]
    trains: list[Record]
    blocks: list[Record] = field(default_factory=list)
    quality: list[Record] = field(default_factory=list)
    damaged: int = 0

    @property
    def done(self) -> bool:
        """Whether its curves go to the end."""
        return self.state == "done"

    @property
    def last_step(self) -> int:
        """The last step that there is a record of."""
        return max((int(r["step"]) for r in self.evals[-1:] + self.trains[-1:]), default=0)

    @property
    def curve(self) -> Curve:
        """Its validation bound over training."""
        steps, seconds, nelbo = (
            [r[key] for r in self.evals] for key in ("step", "seconds", "nelbo")
        )
        counted = all(_is_finite(r.get("flops")) for r in self.evals)
        return Curve(steps, seconds, nelbo, [r["flops"] for r in self.evals] if counted else None)


@dataclass(frozen=True)
class Level:
    """How much sooner than the baseline an arm reaches a bound; more is sooner.

    Attributes:
        percent: of the baseline's steps.
        nelbo: the baseline's bound there, nats per token, mean over seeds.
        steps, seconds: the baseline's over the arm's, seed by seed; None where not reached.
        flops: likewise; None where they were not counted.
    """

    percent: int
    nelbo: float
    steps: Spread
    seconds: Spread
    flops: Spread | None = None


@dataclass(frozen=True)
class Result:
    """An arm against the baseline.

    Attributes:
        seeds: those with which both are done; all else is over them.
        levels: one for each of `LEVELS`; empty without seeds.
        nelbo: the last bound, nats per token, mean over seeds; None without seeds.
        stderr: its standard error over validation blocks, mean over seeds.
        other_nelbo: as ``nelbo``, on the other half of the blocks; None where all were asked for.
        difference: last bound less the baseline's, paired by seed and block; None where no blocks
            are recorded.
        difference_stderr: what the choice of blocks leaves uncertain in it, mean over seeds.
    """

    seeds: list[int] = field(default_factory=list)
    levels: list[Level] = field(default_factory=list)
    nelbo: float | None = None
    stderr: float | None = None
    other_nelbo: float | None = None
    difference: Spread | None = None
    difference_stderr: float | None = None

    @property
    def within_noise(self) -> bool:
        """Whether the difference is less than two of its standard errors."""
        if self.difference is None or self.difference_stderr is None:
            return False
        return abs(self.difference.mean or 0.0) < 2 * self.difference_stderr


@dataclass(frozen=True)
class Arm:
    """One of the things compared, and what came of it.

    Attributes:
        name: as the user wrote it.
        folder: of its runs, ``seed-0``, ``seed-1``, ...
        index: its place in the comparison, 0 the baseline; decides its colour.
        spec: the full specification of its recipe; empty where no configuration can be read.
        group: what its recipe changes (time, masks, ...); empty likewise.
        causal: whether it is the autoregressive twin.
        runs: one for each seed.
        result: how it stands against the baseline.
        samples: the step they were drawn at and the texts, or None.
    """

    name: str
    folder: Path
    index: int
    spec: str
    group: str
    causal: bool
    runs: list[RunRecord]
    result: Result = field(default_factory=Result)
    samples: tuple[int, list[str]] | None = None

    @property
    def done(self) -> list[RunRecord]:
        """The runs whose curves go to the end."""
        return [run for run in self.runs if run.done]

    def run(self, seed: int) -> RunRecord:
        """The run with a seed, which must be there."""
        return next(run for run in self.runs if run.seed == seed)


@dataclass(frozen=True)
class Comparison:
    """A whole comparison.

    Attributes:
        folder: where it lies.
        arms: the baseline first.
        seeds: all that were asked for.
        blocks: the validation blocks that bounds are of.
        machine, versions: where it was made.
        config: text of the configuration of the baseline's first run; empty if there is none.
        corpus: the facts of the corpus; empty if there are none.
    """

    folder: Path
    arms: list[Arm]
    seeds: list[int]
    machine: Record
    versions: Record
    blocks: Blocks = "all"
    config: str = ""
    corpus: Record = field(default_factory=dict)

    @property
    def baseline(self) -> Arm:
        """What the others are compared with."""
        return self.arms[0]


def load_comparison(
    folder: Path, baseline: str | None = None, blocks: Blocks = "all"
) -> Comparison:
    """Read a comparison's folder and compute what it says.

    Args:
        folder: what ``unmask compare`` wrote; the records alone are enough.
        baseline: name of the arm that the others are compared with; None: the plan's first.
        blocks: the validation blocks that bounds are of: ``all``, or those of ``even`` or ``odd``
            number, so that one half can choose among arms and the other report.

    Raises:
        UserError: there is no plan, it is damaged, or the arm or the blocks cannot be had.
    """
    plan = _read_plan(folder)
    names = [arm["name"] for arm in plan["recipes"]]
    first = plan["baseline"] if baseline is None else baseline
    if first not in names:
        raise unknown("baseline", first, names)
    planned = sorted(plan["recipes"], key=lambda arm: bool(arm["name"] != first))
    runs = [
        [
            _read_run(folder / arm["folder"] / f"seed-{r['seed']}", r["seed"], r["state"], blocks)
            for r in arm["runs"]
        ]
        for arm in planned
    ]
    origin = runs[0][0].folder
    return Comparison(
        folder=folder,
        arms=[
            _arm(folder, arm["name"], arm["folder"], index, mine, _result(runs[0], mine, blocks))
            for index, (arm, mine) in enumerate(zip(planned, runs, strict=True))
        ],
        seeds=plan["seeds"],
        machine=plan["machine"],
        versions=plan["versions"],
        blocks=blocks,
        config=_text(origin / "config.yaml"),
        corpus=_json_or_none(origin / "corpus.json") or {},
    )


def whole_curve(record: Record) -> bool:
    """Whether an evaluation has a c(t) for every bin."""
    c_t = record.get("c_t")
    return isinstance(c_t, list) and bool(c_t) and all(map(_is_finite, c_t))


def quarters(steps: list[int]) -> list[int]:
    """The steps nearest to 10, 25, 50 and 100% of a training; step 0 only where there is no other.

    Args:
        steps: of evaluations, increasing.
    """
    later = [step for step in steps if step > 0] or steps
    parts = (0.1, 0.25, 0.5, 1.0)
    return sorted({min(later, key=lambda s: abs(s - part * steps[-1])) for part in parts})


def _read_plan(folder: Path) -> Record:
    """The plan, checked; that of a folder without one is in the ``comparison.json`` it has."""
    path = next((p for p in (folder / PLAN, folder / COMPARISON) if p.is_file()), None)
    if path is None:
        raise UserError(
            f"{folder} has neither {PLAN} nor {COMPARISON}; valid: the folder of an unmask compare"
        )
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
        return {
            "baseline": str(plan["baseline"]),
            "seeds": [int(seed) for seed in plan["seeds"]],
            "recipes": [
                {
                    "name": str(arm["name"]),
                    "folder": str(arm["folder"]),
                    "runs": [
                        {"seed": int(r["seed"]), "state": str(r.get("state", "unfinished"))}
                        for r in arm["runs"]
                    ],
                }
                for arm in plan["recipes"]
            ],
            "machine": dict(plan["machine"]),
            "versions": dict(plan["versions"]),
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged ({type(error).__name__}: {error}); repeat the unmask compare that "
            "made it: its finished runs are used again"
        ) from None


def _arm(
    folder: Path, name: str, place: str, index: int, runs: list[RunRecord], result: Result
) -> Arm:
    config = next((run.config for run in runs if run.config is not None), None)
    recipe = None if config is None else parse_recipe(config.recipe)
    return Arm(
        name=name,
        folder=folder / place,
        index=index,
        spec="" if config is None else config.recipe,
        group="" if recipe is None else recipe.group,
        causal=recipe is not None and recipe.causal,
        runs=runs,
        result=result,
        samples=_samples(runs),
    )


def _read_run(folder: Path, seed: int, state: str, blocks: Blocks) -> RunRecord:
    """A run's records; its state is the plan's only where they do not go to the end."""
    try:
        config = load_config(folder / "config.yaml")
    except UserError:
        config = None
    lines, damaged = read_records(folder / METRICS)
    evals = [r for r in lines if r.get("kind") == "eval" and _finite(r, "seconds", "nelbo")]
    trains = [r for r in lines if r.get("kind") == "train" and _finite(r, "loss")]
    by_block, unreadable = read_records(folder / BLOCKS)
    by_block = [r for r in by_block if {"nats", "tokens"} <= r.keys()]
    quality, unread = read_records(folder / QUALITY)
    if blocks != "all":
        evals = [_on_half(record, by_block, blocks, folder) for record in evals]
    if config is not None and evals and evals[-1]["step"] == config.train.steps:
        state = "done"
    elif state in ("done", "waiting", "running"):  # as it was when the plan was written
        state = "unfinished" if evals else "no records" if state == "done" else state
    return RunRecord(
        seed=seed,
        folder=folder,
        state=state,
        config=config,
        evals=evals,
        trains=trains,
        blocks=by_block,
        quality=[r for r in quality if "kind" in r and _finite(r, "ppl")],
        damaged=len(damaged) + len(unreadable) + len(unread),
    )


def _on_half(record: Record, by_block: list[Record], blocks: Blocks, folder: Path) -> Record:
    """An evaluation with its bound taken of half the blocks.

    Bits per byte are left out: how many bytes the half has is not recorded.
    """
    found = next((b for b in by_block if b["step"] == record["step"]), None)
    if found is None or len(found["nats"]) < 4:
        raise UserError(
            f"{folder} does not tell the bounds of {blocks} validation blocks at step "
            f"{record['step']}: halves need {BLOCKS} with at least 4 blocks; valid: all"
        )
    nelbo, stderr = _bound(found, blocks)
    rest = {key: value for key, value in record.items() if key != "bits_per_byte"}
    return {**rest, "nelbo": nelbo, "stderr": stderr, "ppl": math.exp(nelbo)}


def _bound(by_block: Record, blocks: Blocks) -> tuple[float, float]:
    """Nats per token of some of an evaluation's blocks, and the standard error over them."""
    nats, tokens = (by_block[key][_PLACES[blocks]] for key in ("nats", "tokens"))
    return paired_difference(nats, [0.0] * len(nats), tokens)


def _result(baseline: list[RunRecord], runs: list[RunRecord], blocks: Blocks) -> Result:
    """An arm against the baseline, over the seeds with which both are done."""
    theirs = {run.seed: run for run in baseline if run.done}
    mine = [run for run in runs if run.done and run.seed in theirs]
    if not mine:
        return Result()
    pairs = [(theirs[run.seed], run) for run in mine]
    curves = [[pair[side].curve for pair in pairs] for side in (0, 1)]
    errors = [r["stderr"] for r in (run.evals[-1] for run in mine) if _finite(r, "stderr")]
    differences = [_difference(*pair, blocks) for pair in pairs]
    whole = [found for found in differences if found is not None]
    return Result(
        seeds=[run.seed for run in mine],
        levels=[_at_level(curves[0], curves[1], percent) for percent in LEVELS],
        nelbo=_mean([run.evals[-1]["nelbo"] for run in mine]),
        stderr=_mean(errors) if len(errors) == len(mine) else None,
        other_nelbo=None
        if blocks == "all"
        else _mean([_bound(run.blocks[-1], OTHER_HALF[blocks])[0] for run in mine]),
        difference=spread([value for value, _ in whole]) if len(whole) == len(mine) else None,
        difference_stderr=_mean([e for _, e in whole]) if len(whole) == len(mine) else None,
    )


def _at_level(baseline: list[Curve], mine: list[Curve], percent: int) -> Level:
    nelbo, ratios = speed_up(baseline, mine, percent)
    return Level(percent, nelbo, **ratios)


def _difference(baseline: RunRecord, mine: RunRecord, blocks: Blocks) -> tuple[float, float] | None:
    """Last bound less the baseline's and its standard error; None where no blocks tell it."""
    if not (baseline.blocks and mine.blocks):
        return None
    a, b = (
        {k: run.blocks[-1][k][_PLACES[blocks]] for k in ("nats", "tokens")}
        for run in (mine, baseline)
    )
    if a["tokens"] != b["tokens"] or len(a["tokens"]) < 2:
        return None
    return paired_difference(a["nats"], b["nats"], a["tokens"])


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _finite(record: Record, *keys: str) -> bool:
    return all(_is_finite(record.get(key)) for key in keys)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _samples(runs: list[RunRecord]) -> tuple[int, list[str]] | None:
    """The texts of the first seed that has any."""
    for run in runs:
        samples = _json_or_none(run.folder / SAMPLES)
        if samples and samples.get("texts"):
            return int(samples.get("step", 0)), [str(text) for text in samples["texts"]]
    return None


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _json_or_none(path: Path) -> Record | None:
    """A JSON object of secondary importance: missing or damaged, the report goes without it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
