"""What a comparison left on disk, read with suspicion: parts of it may be missing or damaged."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unmask.base.errors import UserError

Record = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One recipe trained with one seed.

    Attributes:
        seed: its seed.
        state: ``done``, or how it ended otherwise; ``no records`` where nothing can be read.
        evals: its evaluations, by increasing step.
        trains: its training lines, by increasing step.
        damaged: lines of its metrics that could not be read and are left out.
        quality: what ``unmask compare --evaluate`` measured at its checkpoints, by increasing step:
            ``kind`` is ``corpus`` (likelihood of another text) or ``generative``.
    """

    seed: int
    state: str
    evals: list[Record]
    trains: list[Record]
    damaged: int = 0
    quality: list[Record] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """Whether its curves go to the end."""
        return self.state == "done" and bool(self.evals)

    @property
    def last_step(self) -> int:
        """The last step that there is a record of."""
        return max((int(r["step"]) for r in self.evals[-1:] + self.trains[-1:]), default=0)


@dataclass(frozen=True)
class Arm:
    """One of the things compared, and what came of it.

    Attributes:
        name: as the user wrote it.
        folder: of its runs, ``seed-0``, ``seed-1``, ...
        index: its place in the comparison, 0 the baseline; decides its colour.
        spec: the full specification of its recipe.
        group: what its recipe changes (time, masks, ...); empty in records of earlier versions.
        causal: whether it is the autoregressive twin.
        runs: one for each seed.
        levels: speed-ups at the baseline's levels, as in ``comparison.json``; may be empty.
        final: ``final_nelbo``, ``final_stderr`` and ``final_difference``.
        times: density and histogram of its mask rates; None where it draws none, or fits
            what it draws from to what the run meets.
        samples: the step they were drawn at and the texts, or None.
    """

    name: str
    folder: Path
    index: int
    spec: str
    group: str
    causal: bool
    runs: list[Run]
    levels: list[Record]
    final: Record
    times: dict[str, list[float]] | None
    samples: tuple[int, list[str]] | None

    @property
    def done(self) -> list[Run]:
        """The runs whose curves go to the end."""
        return [run for run in self.runs if run.done]


@dataclass(frozen=True)
class Comparison:
    """A whole comparison.

    Attributes:
        arms: the baseline first.
        seeds: all that were asked for.
        machine, versions: where it was made; values as strings.
        config: text of the configuration of the baseline's first run; empty if there is none.
        corpus: the facts of the corpus; empty if there are none.
    """

    arms: list[Arm]
    seeds: list[int]
    machine: dict[str, str]
    versions: dict[str, str]
    config: str = ""
    corpus: Record = field(default_factory=dict)

    @property
    def baseline(self) -> Arm:
        """What the others are compared with."""
        return self.arms[0]


def load_comparison(folder: Path) -> Comparison:
    """Read a comparison's folder.

    Args:
        folder: where ``unmask compare`` left ``comparison.json`` and the runs.

    Raises:
        UserError: there is no ``comparison.json``, or it is not what ``unmask compare`` writes.
    """
    path = folder / "comparison.json"
    if not path.is_file():
        raise UserError(
            f"{folder} has no comparison.json; valid: the --run folder of an unmask compare "
            "that has ended"
        )
    try:
        return _comparison(folder, json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(
            f"{path} is damaged ({type(error).__name__}: {error}); repeat the unmask compare that "
            "made it: its finished runs are used again"
        ) from None


def _comparison(folder: Path, summary: Record) -> Comparison:
    times = _json_or_none(folder / "times.json") or {}
    recipes = summary["recipes"]
    # The first is the baseline by construction; the name is checked, the order relied on.
    recipes.sort(key=lambda r: r["name"] != summary["baseline"])
    arms = []
    for index, recipe in enumerate(recipes):
        place = folder / recipe["folder"]
        arms.append(
            Arm(
                name=recipe["name"],
                folder=place,
                index=index,
                spec=recipe["recipe"],
                group=str(recipe.get("group", "")),
                causal=bool(recipe["causal"]),
                runs=[
                    _run(place / f"seed-{r['seed']}", int(r["seed"]), r["state"])
                    for r in recipe["runs"]
                ],
                levels=[_level(level) for level in recipe["levels"]],
                final={k: recipe[k] for k in ("final_nelbo", "final_stderr", "final_difference")},
                times=_times(times.get(recipe["name"])),
                samples=_samples(place),
            )
        )
    first = folder / recipes[0]["folder"] / f"seed-{summary['seeds'][0]}"
    config = first / "config.yaml"
    return Comparison(
        arms=arms,
        seeds=[int(seed) for seed in summary["seeds"]],
        machine={k: "none" if v is None else str(v) for k, v in summary["machine"].items()},
        versions={k: str(v) for k, v in summary["versions"].items()},
        config=config.read_text(encoding="utf-8", errors="replace") if config.is_file() else "",
        corpus=_json_or_none(first / "corpus.json") or {},
    )


def _level(level: Record) -> Record:
    """A level, checked for what the table and the plot use."""
    keys = ["percent", "nelbo", "steps_ratio", "ci_low", "ci_high"]
    keys += ["seconds_ratio", "seconds_ci_low", "seconds_ci_high"]
    numbers = {key: None if level[key] is None else float(level[key]) for key in keys}
    return {**numbers, "seeds_reached": level.get("seeds_reached")}


def _run(folder: Path, seed: int, state: str) -> Run:
    records, damaged = _records(folder / "metrics.jsonl")
    evals = [r for r in records if r["kind"] == "eval" and _finite(r, "step", "seconds", "nelbo")]
    trains = [r for r in records if r["kind"] == "train" and _finite(r, "step", "loss")]
    if not evals and state == "done":
        state = "no records"
    quality, unreadable = _records(folder / "quality.jsonl")
    quality = [r for r in quality if _finite(r, "step", "ppl")]
    return Run(seed, state, evals, trains, damaged + unreadable, quality)


def _records(path: Path) -> tuple[list[Record], int]:
    """The readable lines of a metrics file by step, and how many others there are.

    A last line without its end was cut short by a crash, which is no damage: it is passed over.
    """
    if not path.is_file():
        return [], 0
    records, damaged = [], 0
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]:
        try:
            record = json.loads(line)
            records.append({**record, "kind": str(record["kind"]), "step": int(record["step"])})
        except (ValueError, KeyError, TypeError):
            damaged += bool(line.strip())
    return sorted(records, key=lambda r: int(r["step"])), damaged


def _finite(record: Record, *keys: str) -> bool:
    return all(
        isinstance(record.get(key), int | float) and math.isfinite(record[key]) for key in keys
    )


def _times(times: Any) -> dict[str, list[float]] | None:
    """An arm's mask rates, if they are whole."""
    if not isinstance(times, dict) or not {"t", "density", "histogram"} <= times.keys():
        return None
    return times if len(times["t"]) == len(times["density"]) and times["histogram"] else None


def _samples(folder: Path) -> tuple[int, list[str]] | None:
    """The texts of the first seed that has any."""
    for path in sorted(folder.glob("seed-*/samples.json")):
        samples = _json_or_none(path)
        if samples and samples.get("texts"):
            return int(samples.get("step", 0)), [str(text) for text in samples["texts"]]
    return None


def _json_or_none(path: Path) -> Record | None:
    """A JSON object of secondary importance: missing or damaged, the report goes without it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
