"""``unmask compare --evaluate``: what each run's kept checkpoints are worth, beyond the bound.

RUN/quality.jsonl   a line for each checkpoint and each thing measured; ``kind`` is ``corpus``
                    (likelihood of another text) or ``generative``
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from unmask.base.errors import UserError
from unmask.base.files import write_whole
from unmask.base.wording import counted
from unmask.compare.launch import Trial
from unmask.compare.options import QualityOptions
from unmask.compare.records import QUALITY
from unmask.data.load import whole_text
from unmask.evaluate.generative import generative_quality, reference_quality
from unmask.evaluate.judge import Judge, load_judge
from unmask.evaluate.likelihood import evaluate_run
from unmask.evaluate.quality import TextQuality
from unmask.run import Run, open_run
from unmask.train.checkpoint import checkpoint_steps
from unmask.train.metrics import read_records


def check_quality(options: QualityOptions) -> Judge | None:
    """Tell before any training what is wrong with the request.

    Returns:
        The judge, if one is asked for.

    Raises:
        UserError: nothing is asked for, or a corpus or the judge cannot be had.
    """
    if not (options.corpora or options.judge):
        raise UserError("an evaluation needs quality.corpora, quality.judge, or both")
    names = [Path(corpus).name for corpus in options.corpora]
    if len(set(names)) < len(names):
        raise UserError(f"quality.corpora: two have one name, which records tell them by: {names}")
    for corpus in options.corpora:
        whole_text(corpus)
    return load_judge(options.judge) if options.judge else None


def measure_quality(
    trials: list[Trial], options: QualityOptions, judge: Judge | None, console: Console
) -> None:
    """Evaluate the kept checkpoints of every run that is done; what is measured is not repeated.

    How many checkpoints are kept, and how often one is made, is said by ``train.keep`` and
    ``train.save-every``. Samples have the run's block size and the same seed at every checkpoint.

    Args:
        judge: as `check_quality` gave it.

    Raises:
        UserError: a corpus cannot be had.
    """
    wanted = _wanted(options)
    done = [trial for trial in trials if trial.state == "done"]
    plan = [
        (trial, step) for trial in done for step in checkpoint_steps(trial.folder / "checkpoints")
    ]
    reference: TextQuality | None = None
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        for trial, step in bar.track(plan, description="evaluating checkpoints"):
            known = {_key(record): record for record in read_records(trial.folder / QUALITY)[0]}
            missing = [w for w in wanted if _key({"step": step, **w}) not in known]
            if not missing:
                continue
            run = open_run(trial.folder, str(step))
            if judge is not None and reference is None:
                reference = reference_quality(run, judge=judge, num=options.num)
            new = list(_measured(run, missing, options, judge, reference))
            records = sorted([*known.values(), *new], key=lambda r: int(r["step"]))
            lines = "".join(json.dumps(r, allow_nan=False) + "\n" for r in records)
            write_whole(trial.folder / QUALITY, lines.encode())
    found = f"evaluated {counted(len(plan), 'checkpoint')} of {counted(len(done), 'run')}"
    console.print(found, soft_wrap=True)


def _wanted(options: QualityOptions) -> list[dict[str, Any]]:
    """The records that every checkpoint is to have, by what identifies them.

    One that was made with other settings is made again.
    """
    wanted: list[dict[str, Any]] = [
        {"kind": "corpus", "corpus": Path(c).name, "budget": options.budget, "source": c}
        for c in options.corpora
    ]
    if options.judge:
        judged = {"judge": options.judge, "num": options.num, "sampler_steps": options.steps}
        wanted.append({"kind": "generative", **judged})
    return wanted


def _key(record: dict[str, Any]) -> tuple[Any, ...]:
    names = ("step", "kind", "corpus", "budget", "judge", "num", "sampler_steps")
    return tuple(record.get(name) for name in names)


def _measured(
    run: Run,
    wanted: list[dict[str, Any]],
    options: QualityOptions,
    judge: Judge | None,
    reference: TextQuality | None,
) -> Iterator[dict[str, Any]]:
    step = run.checkpoint.progress.step
    for record in wanted:
        if record["kind"] == "corpus":
            found = evaluate_run(run, record["source"], options.budget)
            numbers = {"nelbo": found.bound.nelbo, "stderr": found.bound.stderr}
            numbers |= {"ppl": found.bound.ppl, "bits_per_byte": found.bits_per_byte}
            named = {k: v for k, v in record.items() if k != "source"}
            yield {"step": step, **named, **numbers}
        elif judge is not None and reference is not None:
            quality = generative_quality(
                run, judge=judge, num=options.num, steps=options.steps, reference=reference
            )
            mine, text = quality.samples.record(), reference.record()
            yield {
                "step": step,
                **record,
                "ppl": mine["perplexity"],
                "ppl_low": mine["perplexity_low"],
                "ppl_high": mine["perplexity_high"],
                "entropy": mine["entropy"],
                "entropy_stderr": mine["entropy_stderr"],
                "distinct": mine["distinct"],
                "text_ppl": text["perplexity"],
                "text_entropy": text["entropy"],
            }
