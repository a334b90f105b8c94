"""``unmask analyze interventions``: the same comparison with and without locality.

DIR/<transform>/         a comparison for each transform, as ``unmask compare`` leaves it
DIR/interventions.json   what changes between them
DIR/index.html           the page

The autoregressive twin on permuted positions is the twin with a fixed random order: a block's
likelihood does not depend on how its tokens are listed, so its bound stands beside all others.
"""

from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.text import Text

from unmask.analyze.interventions.plots import all_plots
from unmask.analyze.page import Record, save_study
from unmask.base.environment import environment
from unmask.base.errors import UserError, unknown
from unmask.compare.arms import parse_arms
from unmask.compare.plan import compare
from unmask.compare.records import LEVELS, Arm, Comparison
from unmask.compare.report.page import write_report
from unmask.compare.statistics import ratio_spread, speed_up, spread
from unmask.config import Config, with_options
from unmask.data.load import load_data
from unmask.data.transforms import TRANSFORMS
from unmask.recipe.parse import parse_recipe

RECORD = "interventions.json"


def interventions(
    config: Config,
    folder: Path,
    out: Path,
    *,
    recipes: str,
    transform: str,
    seeds: int,
    jobs: int,
    console: Console,
) -> Record:
    """Train both comparisons (finished runs are used again), measure, and write records and page.

    Args:
        config: what the arms share; its own transform is that of the first comparison.
        folder: of both comparisons.
        out: where the record and the page go.
        recipes: as of ``unmask compare``: the baseline, which masks, first; an autoregressive twin
            among the others.
        transform: of the second comparison.

    Raises:
        UserError: before any work, for whatever is wrong with the request.
        Interrupted: a signal came; repeat the call to go on.
    """
    plans = _plans(config, recipes, transform)
    comparisons = []
    for name, arms in plans.items():
        console.print(Text(f"transform {name}", "bold"))
        comparisons.append(compare(arms, seeds, folder / name, jobs=jobs, console=console))
        write_report(folder / name)
    before, after = comparisons
    done = common_seeds(before, after)
    if not done:
        raise UserError(
            f"no seed has every run done under {folder}: see the .log files beside the runs, and "
            "repeat the command to go on"
        )
    record: Record = {
        "kind": "interventions",
        "transforms": list(plans),
        "seeds": done,
        "corpus": before.corpus,
        "unigram": load_data(config.corpus).valid.unigram_entropy(),
        "settings": [
            {"transform": name, "recipes": [_arm(arm, done) for arm in comparison.arms]}
            for name, comparison in zip(plans, comparisons, strict=True)
        ],
        "effects": effects(before, after),
        "other_order": _other_order(before, after, done),
        **environment(),
    }
    record["conclusion"] = conclusion(record)
    save_study(record, out / RECORD, all_plots)
    return record


def _plans(config: Config, recipes: str, transform: str) -> dict[str, dict[str, Config]]:
    """The arms of both comparisons by their transform, checked."""
    if transform not in TRANSFORMS:
        raise unknown("transform", transform, TRANSFORMS)
    first = config.corpus.transform
    if transform == first:
        raise UserError(
            f"intervention {transform} is what the first comparison has (corpus.transform); "
            "they must differ"
        )
    plans = {
        name: parse_arms(recipes, with_options(config, {"corpus.transform": name}))
        for name in (first, transform)
    }
    causal = [parse_recipe(config.recipe).causal for config in plans[first].values()]
    if causal[0] or not any(causal):
        raise UserError(
            f"recipes {recipes!r} must begin with a recipe that masks and hold an autoregressive "
            "twin: standard,bell,ar"
        )
    return plans


def common_seeds(*comparisons: Comparison) -> list[int]:
    """The seeds with which every recipe of every comparison is done."""
    done = [{run.seed for run in arm.done} for c in comparisons for arm in c.arms]
    return sorted(set.intersection(*done))


def effects(with_locality: Comparison, without: Comparison) -> list[Record]:
    """For each recipe but the first: what it is ahead by in both comparisons, and the change.

    Returns:
        For each: ``difference`` (final bound less the baseline's, nats per token) and ``speed_up``
        (steps of the baseline over the recipe's at each of `LEVELS`), each with ``with``,
        ``without`` and ``change``: a difference of differences, a ratio of ratios, paired by seed.
        Only seeds whose runs are done in both comparisons count.
    """
    seeds = common_seeds(with_locality, without)
    found = []
    for a, b in zip(with_locality.arms[1:], without.arms[1:], strict=True):
        pairs = ((with_locality.baseline, a), (without.baseline, b))
        before, after = (_differences(base, arm, seeds) for base, arm in pairs)
        found.append(
            {
                "recipe": a.name,
                "index": a.index,
                "causal": a.causal,
                "difference": {
                    "with": asdict(spread(before)),
                    "without": asdict(spread(after)),
                    "change": asdict(spread([y - x for x, y in zip(before, after, strict=True)])),
                },
                "speed_up": [_speed_up(pairs, seeds, percent) for percent in LEVELS],
            }
        )
    return found


def _speed_up(
    pairs: tuple[tuple[Arm, Arm], tuple[Arm, Arm]], seeds: list[int], percent: int
) -> Record:
    before, after = (
        speed_up(
            [base.run(seed).curve for seed in seeds],
            [arm.run(seed).curve for seed in seeds],
            percent,
        )[1]["steps"]
        for base, arm in pairs
    )
    change = [
        None if x is None or y is None else y / x
        for x, y in zip(before.values, after.values, strict=True)
    ]
    return {
        "percent": percent,
        "with": asdict(before),
        "without": asdict(after),
        "change": asdict(ratio_spread(change)),
    }


def _finals(arm: Arm, seeds: list[int]) -> list[float]:
    """The last bounds of an arm's runs, nats per token."""
    return [float(arm.run(seed).evals[-1]["nelbo"]) for seed in seeds]


def _differences(base: Arm, arm: Arm, seeds: list[int]) -> list[float]:
    finals = zip(_finals(base, seeds), _finals(arm, seeds), strict=True)
    return [mine - theirs for theirs, mine in finals]


def _arm(arm: Arm, seeds: list[int]) -> Record:
    """A recipe's curves and last bounds; steps that all seeds share."""
    curves = [arm.run(seed).curve for seed in seeds]
    return {
        "name": arm.name,
        "index": arm.index,
        "causal": arm.causal,
        "steps": curves[0].steps,
        "nelbo": [curve.nelbo for curve in curves],
        "final": asdict(spread(_finals(arm, seeds))),
    }


def _other_order(before: Comparison, after: Comparison, seeds: list[int]) -> list[Record]:
    """Each twin in the second comparison's order against the first comparison's baseline."""
    return [
        {"recipe": arm.name, "difference": asdict(spread(ahead))}
        for arm in after.arms
        if arm.causal and (ahead := _differences(before.baseline, arm, seeds))
    ]


def conclusion(record: Record) -> list[str]:
    """What becomes of the gap to the twin, and of the other recipes' gain."""
    first, second = record["transforms"]
    base = record["settings"][0]["recipes"][0]["name"]
    twin = next(e for e in record["effects"] if e["causal"])
    gap = twin["difference"]
    line = (
        f"{twin['recipe']} against {base}, last bounds: {_signed(gap['with'])} nats per token with "
        f"transform {first}, {_signed(gap['without'])} with {second}; the gap "
        f"{_verdict(gap['with'], gap['without'], gap['change'])}."
    )
    lines = [line]
    others = [e for e in record["effects"] if not e["causal"]]
    if others:
        gain = others[0]["speed_up"][-1]
        said = f"{others[0]['recipe']} reaches {base}'s last NELBO "
        said += f"{_times(gain['with'])} as soon with {first}, {_times(gain['without'])} with "
        said += second
        difference = others[0]["difference"]
        before, after = difference["with"], difference["without"]
        said += f"; its lead in nats, {_signed(before)} and {_signed(after)}, "
        said += f"{_verdict(before, after, difference['change'])}."
        lines.append(said)
    learnt = record["unigram"] - record["settings"][1]["recipes"][0]["final"]["mean"]
    if learnt < 0.1 * record["unigram"]:
        lines[-1] += (
            f" But with {second} {base} is only {learnt:+.3f} nats below the token frequencies' "
            "entropy: too little is learnt for the gaps to mean much."
        )
    return lines


def _verdict(before: Record, after: Record, change: Record) -> str:
    """Whether a quantity moves towards 0, and whether the seeds are sure of it."""
    a, b = before["mean"], after["mean"]
    word = "changes sign" if a * b < 0 else "shrinks" if abs(b) < abs(a) else "grows"
    if change["low"] is None:
        return f"{word} (one seed: no interval)"
    interval = f"change {change['mean']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}]"
    sure = change["low"] > 0 or change["high"] < 0
    return f"{word} ({interval})" if sure else f"does not clearly change ({interval})"


def _signed(value: Record) -> str:
    return f"{value['mean']:+.3f}"


def _times(ratio: Record) -> str:
    return "not within its run" if ratio["mean"] is None else f"{ratio['mean']:.2f} times"
