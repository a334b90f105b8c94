"""Which runs and checkpoints of a comparison a study looks at."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from unmask.base.errors import UserError, unknown
from unmask.compare.records import Arm, Comparison, load_comparison
from unmask.config import load_config
from unmask.data import Data, load_data
from unmask.train.checkpoint import checkpoint_steps


@dataclass(frozen=True)
class Chosen:
    """A run of a comparison and the checkpoints of it to look at.

    Attributes:
        arm: the recipe.
        seed: of the run.
        folder: of the run.
        kept: steps of all its checkpoints.
        steps: those looked at, increasing; the last kept one is among them.
    """

    arm: Arm
    seed: int
    folder: Path
    kept: list[int]
    steps: list[int]


def open_comparison(folder: Path) -> Comparison:
    """Read the records of a comparison of recipes that mask.

    Raises:
        UserError: no comparison, one recipe alone, or none that masks and is done.
    """
    comparison = load_comparison(folder)
    if len(comparison.arms) < 2:
        raise UserError(
            f"{folder} compares nothing: it holds one recipe, {comparison.arms[0].name}; valid: "
            "the --run folder of an unmask compare of at least two"
        )
    if not any(arm.done and not arm.causal for arm in comparison.arms):
        raise UserError(
            f"{folder} has no finished run of a recipe that masks tokens (an autoregressive twin "
            "has no mask rates); repeat its unmask compare to finish the runs"
        )
    return comparison


def choose(comparison: Comparison, names: Sequence[str], most: int) -> list[Chosen]:
    """The first finished run of each recipe that masks, with checkpoints over its training.

    Args:
        names: the recipes'; none: all that mask.
        most: checkpoints of each, the last one and others evenly spaced among those kept.

    Raises:
        UserError: an unknown recipe, or a run without checkpoints.
    """
    arms = {arm.name: arm for arm in comparison.arms if arm.done and not arm.causal}
    wanted = names or list(arms)
    chosen = []
    for name in wanted:
        if name not in arms:
            raise unknown("finished recipe that masks", name, arms)
        run = arms[name].done[0]
        folder = arms[name].folder / f"seed-{run.seed}"
        kept = checkpoint_steps(folder / "checkpoints")
        if not kept:
            raise UserError(
                f"{folder} has no checkpoints, only records: gradients and transfer need the "
                "weights; repeat its unmask compare in another folder and keep them"
            )
        chosen.append(Chosen(arms[name], run.seed, folder, kept, spread(kept, most)))
    return chosen


def spread(kept: list[int], most: int) -> list[int]:
    """At most that many of the steps, evenly spaced in place, the last among them."""
    n = min(most, len(kept))
    return [kept[(k + 1) * len(kept) // n - 1] for k in range(n)]


def open_data(run: Path, console: Console) -> Data:
    """The corpus a run was trained on, from the cache or packed again.

    Raises:
        UserError: it cannot be read, or is no longer the same.
    """
    return load_data(load_config(run / "config.yaml").corpus, console=console, run=run)
