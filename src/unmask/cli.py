"""The command line. Thin: it parses, calls and prints."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import Progress
from rich.rule import Rule

from unmask.compare import Interrupted, compare, parse_arms, summary_table
from unmask.config import Config, load_config, load_preset, preset_names
from unmask.errors import UserError, unknown
from unmask.report import write_report
from unmask.run import open_run, train_run
from unmask.sample import sample
from unmask.train import TRAINING_FAILED, TrainingFailed
from unmask.train.device import choose_device

_HELP = """\
usage: unmask COMMAND [OPTIONS]

Train masked diffusion language models fast, see why they are slow, prove the speed-up.

commands:
  train     train a model in a run folder, or resume one
  compare   train recipes side by side and measure the speed-up
  report    make a comparison's report again from its records
  sample    print texts drawn from a run

unmask COMMAND --help shows a command's options.
"""

DEFAULT_PRESET = "nano,fast"
_PRESET_HELP = f"Where to start: {', '.join(preset_names())}, or several, the last over the first."


@dataclass
class TrainArguments:
    """Train a masked diffusion language model (or its autoregressive twin) in a run folder.

    The configuration is put together from a preset, then a YAML file, then the options given here.
    Example: unmask train --preset nano --run runs/a --recipe bell:mean=0.4,std=0.15
    """

    config_values: Annotated[Config, tyro.conf.arg(name="")]
    run: Path
    """Folder of the run: config.yaml, metrics.jsonl and checkpoints/ go there."""
    preset: Annotated[str, tyro.conf.arg(help=_PRESET_HELP)] = DEFAULT_PRESET
    config: Path | None = None
    """YAML file with any of the options below, over the preset (a run's config.yaml repeats it)."""
    resume: bool = False
    """Continue the run where its latest checkpoint left it; without one, start it."""


@dataclass
class CompareArguments:
    """Train recipes side by side and measure how much sooner each reaches the baseline's bound.

    Runs go to RUN/<recipe>/seed-<s>; finished ones are used again and interrupted ones go on, so
    the command can be stopped and repeated. Every option of unmask train is an option here.
    Example: unmask compare --preset nano --run runs/cmp --recipes standard,bell --seeds 3
    """

    config_values: Annotated[Config, tyro.conf.arg(name="")]
    run: Path
    """Folder of the comparison: the runs, comparison.json and report/ go there."""
    recipes: str = "standard,bell"
    """The baseline, then what is compared with it: NAME[:key=value,...][+train.option=value...]."""
    seeds: int = 1
    """Seeds for each recipe; an interval needs at least two."""
    jobs: int = 0
    """Runs at once, the cores divided between them; 0: one for each two cores."""
    preset: Annotated[str, tyro.conf.arg(help=_PRESET_HELP)] = DEFAULT_PRESET
    config: Path | None = None
    """YAML file with any of the options below, over the preset."""


@dataclass
class ReportArguments:
    """Make the report of a comparison again, from its records alone."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """Folder of the comparison."""


@dataclass
class SampleArguments:
    """Print texts drawn from a trained run."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    num: int = 4
    """How many texts."""
    length: int = 128
    """Tokens each, at most the run's block size."""
    steps: int = 64
    """Denoising steps; more are slower and better, up to one a token."""
    seed: int = 0
    """Another seed, other texts."""
    checkpoint: str = "last"
    """last, best (lowest validation NELBO), or a step number."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""


def train_command(arguments: Sequence[str], console: Console) -> int:
    """Run ``unmask train``: 0 when done, 128 + the signal's number when stopped by one."""
    parsed = tyro.cli(
        TrainArguments,
        prog="unmask train",
        args=arguments,
        default=TrainArguments(_base_config(arguments), tyro.MISSING),
    )
    outcome = train_run(parsed.config_values, parsed.run, resume=parsed.resume, console=console)
    if outcome.signal is not None:
        console.print(
            f"stopped at step {outcome.progress.step:,} and saved; to go on: "
            f"unmask train --run {parsed.run} --resume"
        )
        return 128 + outcome.signal
    console.print(f"done: {parsed.run}; for samples: unmask sample {parsed.run}")
    return 0


def compare_command(arguments: Sequence[str], console: Console) -> int:
    """Run ``unmask compare``: 0 when every run is done, 1 if one diverged or failed."""
    parsed = tyro.cli(
        CompareArguments,
        prog="unmask compare",
        args=arguments,
        default=CompareArguments(_base_config(arguments), tyro.MISSING),
    )
    for name, value, least in (("seeds", parsed.seeds, 1), ("jobs", parsed.jobs, 0)):
        if value < least:
            raise UserError(f"--{name} must be at least {least}, not {value}")
    jobs = parsed.jobs or max(1, (os.cpu_count() or 1) // 2)
    arms = parse_arms(parsed.recipes, parsed.config_values)
    try:
        summary = compare(arms, parsed.seeds, parsed.run, jobs=jobs, console=console)
    except Interrupted as stopped:
        console.print("stopped, and the runs have saved themselves; repeat the command to go on")
        return 128 + stopped.number
    console.print(summary_table(summary))
    console.print(f"records: {parsed.run / 'comparison.json'}", soft_wrap=True)
    console.print(f"report:  {write_report(parsed.run)}", soft_wrap=True)
    states = {run["state"] for recipe in summary["recipes"] for run in recipe["runs"]}
    return 0 if states == {"done"} else 1


def report_command(arguments: Sequence[str], console: Console) -> int:
    """Run ``unmask report``."""
    parsed = tyro.cli(ReportArguments, prog="unmask report", args=arguments)
    console.print(f"report: {write_report(parsed.run)}", soft_wrap=True)
    return 0


def sample_command(arguments: Sequence[str], console: Console) -> int:
    """Run ``unmask sample``."""
    parsed = tyro.cli(SampleArguments, prog="unmask sample", args=arguments)
    device = choose_device(parsed.device)
    run = open_run(parsed.run, parsed.checkpoint)
    run.model.to(device)
    total = parsed.length if run.model.causal else parsed.steps
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("sampling", total=total)
        texts = sample(
            run,
            num=parsed.num,
            length=parsed.length,
            steps=parsed.steps,
            seed=parsed.seed,
            on_step=lambda _: bar.advance(task),
        )
    for number, text in enumerate(texts, 1):
        console.print(Rule(f"sample {number}", style="dim"))
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    return 0


COMMANDS: dict[str, Callable[[Sequence[str], Console], int]] = {
    "train": train_command,
    "compare": compare_command,
    "report": report_command,
    "sample": sample_command,
}


def _base_config(arguments: Sequence[str]) -> Config:
    """What the options are laid over: the resumed run's configuration, or preset and file."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset")
    first.add_argument("--config", type=Path)
    first.add_argument("--run", type=Path)
    first.add_argument("--resume", action="store_true")
    known, _ = first.parse_known_args(_as_pairs(arguments))
    if known.resume and known.run and not (known.preset or known.config):
        saved = known.run / "config.yaml"
        if saved.is_file():
            return load_config(saved)
    base = load_preset(known.preset or DEFAULT_PRESET)
    return load_config(known.config, base) if known.config else base


def _as_pairs(arguments: Sequence[str]) -> list[str]:
    """Drop a trailing option without its value: the full parser says what is wrong with it."""
    listed = list(arguments)
    return listed[:-1] if listed and listed[-1] in ("--preset", "--config", "--run") else listed


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of ``unmask``.

    Returns:
        0 done, 1 a comparison with runs that are not, 2 bad input, 3 training failed, 128 + n
        signal n.
    """
    listed = list(sys.argv[1:] if arguments is None else arguments)
    console = Console()
    if not listed or listed[0] in ("-h", "--help"):
        console.print(_HELP, highlight=False, markup=False, end="")
        return 0
    try:
        if listed[0] not in COMMANDS:
            raise unknown("command", listed[0], COMMANDS)
        return COMMANDS[listed[0]](listed[1:], console)
    except UserError as error:
        return _tell(f"error: {error}", 2)
    except TrainingFailed as error:
        return _tell(f"training failed: {error}", TRAINING_FAILED)


def _tell(message: str, status: int) -> int:
    Console(stderr=True).print(message, style="red", markup=False, highlight=False, soft_wrap=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
