"""``unmask analyze locality``: from a corpus or a run to the record of its locality."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress

from unmask.analyze.locality import reach
from unmask.analyze.locality.mask_runs import MaskRuns, empirical, endless, in_block
from unmask.analyze.locality.plots import all_plots
from unmask.analyze.locality.window import (
    SIDES,
    WindowProfile,
    distance_holding,
    information_within,
    radii_for,
    window_profile,
)
from unmask.analyze.page import Record, save_study
from unmask.base.environment import environment
from unmask.base.errors import UserError
from unmask.data.config import CorpusConfig
from unmask.data.information import FARTHEST, Locality, mutual_information, read_text
from unmask.data.load import Data, load_data
from unmask.diffusion.masking import Masking
from unmask.recipe.auto import evidence, nearest, recommended_bell
from unmask.recipe.objective import Objective
from unmask.recipe.parse import parse_recipe
from unmask.run import Run
from unmask.train.config import ValidationConfig
from unmask.train.validation import evenly_spaced, validate

RECORD = "locality.json"
MASK_RATES = (0.25, 0.5, 0.75, 0.9)
PARTS = (0.5, 0.9)
_SAMPLES = 2000  # blocks masked at each rate
_CURVE = (torch.arange(49, dtype=torch.float64) + 1) / 50


def locality_of_corpus(corpus: CorpusConfig, *, seed: int, console: Console) -> Record:
    """Measure the locality of a corpus's training text, without a model.

    Args:
        corpus: source, tokenizer and packing.
        seed: of the random pairing and of the masks counted.
        console: where progress is shown.

    Returns:
        The record, as `save_locality` writes it; nats throughout.

    Raises:
        UserError: anything wrong with the corpus, or too little of it.
    """
    _check_plain(corpus)
    data = load_data(corpus, console=console)
    record, _ = _corpus_part(data, corpus, parse_recipe("standard").main, seed, console)
    return {**record, "conclusion": conclusion(record)}


def locality_of_run(run: Run, *, blocks: int, targets: int, seed: int, console: Console) -> Record:
    """Measure the locality of a run's training text, and what its model makes of it.

    Args:
        run: an opened run, its model where it shall compute.
        blocks: validation blocks looked at.
        targets: places in each for the windows.
        seed: of places, masks and the random pairing.
        console: where progress is shown.

    Raises:
        UserError: the autoregressive twin, or anything wrong with the corpus.
    """
    recipe = parse_recipe(run.config.recipe)
    if recipe.causal:
        raise UserError(
            f"{run.folder} is an autoregressive twin, which masks nothing; valid: a run of any "
            "other recipe"
        )
    _check_plain(run.config.corpus)
    data = load_data(run.config.corpus, console=console, run=run.folder)
    record, locality = _corpus_part(data, run.config.corpus, recipe.main, seed, console)
    chosen = evenly_spaced(len(data.valid), blocks)
    mask_id = run.tokenizer.mask_id
    passes = len(SIDES) * (len(radii_for(data.valid.block_size)) - 1) + 1
    with _progress(console, "windows of the model", passes) as advance:
        window = window_profile(
            run.model, data.valid, chosen, mask_id, targets=targets, seed=seed, on_pass=advance
        )
    with console.status("measuring c(t)"):
        config = ValidationConfig(blocks=max(2, len(chosen)), draws=10, seed=seed)
        bound = validate(run.model, data.valid, config, mask_id)
    assert bound.c_t is not None  # only a causal model has none
    entropy = data.valid.unigram_entropy()
    bell = reach.measured_bell(bound.c_t, entropy, window)
    record["run"] = {
        "folder": str(run.folder),
        "step": run.checkpoint.progress.step,
        "recipe": run.config.recipe,
        "blocks": len(chosen),
        "targets": targets,
        "entropy": entropy,
        "nelbo": bound.nelbo,
        "stderr": bound.stderr,
        **_windows(window),
        "reach": _measured(bound.c_t, entropy, locality, window),
        "bell": None if bell is None else {**asdict(bell), "recipe": bell.recipe},
    }
    record["reach"]["profile"] = reach.profile(locality, window, _CURVE).tolist()
    return {**record, "conclusion": conclusion(record)}


def save_locality(record: Record, folder: Path) -> Path:
    """Write ``locality.json`` and its page; returns the page's path."""
    return save_study(record, folder / RECORD, all_plots)


def _check_plain(corpus: CorpusConfig) -> None:
    if corpus.fields.prompted:
        raise UserError(
            "corpus.prompt_field and corpus.messages_field: how near information sits is measured "
            "on plain text, any token of which can be masked; leave them out"
        )


def _corpus_part(
    data: Data, corpus: CorpusConfig, objective: Objective, seed: int, console: Console
) -> tuple[Record, Locality]:
    text = read_text(data.train.measured())
    with _progress(console, "information by distance", FARTHEST) as advance:
        locality = mutual_information(text, seed=seed, on_distance=lambda d: advance())
    length = corpus.block_size
    try:
        bell = recommended_bell(locality)
        advice: Record = {**asdict(bell), "recipe": bell.recipe, "why_not": None}
    except UserError as error:
        advice = {"mean": None, "std": None, "recipe": None, "why_not": str(error)}
    record = {
        "corpus": {key: data.facts[key] for key in ("source", "sha256", "tokenizer")},
        "block_size": length,
        "seed": seed,
        "mutual_information": asdict(locality),
        "masking": objective.options()["masking"],
        "mask_runs": [_mask_runs(t, length, objective.masking, seed) for t in MASK_RATES],
        "reach": {
            "t": _CURVE.tolist(),
            "evidence": evidence(locality, _CURVE).tolist(),
            "nearest": nearest(locality, _CURVE).tolist(),
        },
        "bell": advice,
        "run": None,
        **environment(),
    }
    return record, locality


def _mask_runs(t: float, length: int, masking: Masking, seed: int) -> Record:
    def rounded(found: MaskRuns) -> Record:
        return {k: [float(f"{p:.6g}") for p in v.tolist()] for k, v in vars(found).items()}

    return {
        "t": t,
        "endless": rounded(endless(t, length)),
        "block": rounded(in_block(t, length)),
        "counted": rounded(empirical(t, length, masking=masking, samples=_SAMPLES, seed=seed)),
    }


def _windows(window: WindowProfile) -> Record:
    sides = {}
    for side in SIDES:
        ce = window.ce[side]
        gain, error = information_within(window, side)
        held = {f"{part:.0%}": distance_holding(window, side, part) for part in PARTS}
        sides[side] = {
            "cross_entropy": ce.mean(dim=0).tolist(),
            "cross_entropy_stderr": (ce.std(dim=0) / len(ce) ** 0.5).tolist(),
            "information": gain.tolist(),
            "information_stderr": error.tolist(),
            "holds": {k: v and {"tokens": v[0], "stderr": v[1]} for k, v in held.items()},
        }
    return {"radii": window.radii, "sides": sides}


def _measured(
    c_t: list[float | None], entropy: float, locality: Locality, window: WindowProfile
) -> Record:
    """H - c(t) by bin, and the same by each model of `unmask.recipe.auto`."""
    t = (torch.arange(len(c_t), dtype=torch.float64) + 0.5) / len(c_t)
    predicted = {
        "evidence": evidence(locality, t).tolist(),
        "nearest": nearest(locality, t).tolist(),
        "profile": reach.profile(locality, window, t).tolist(),
    }
    measured = [None if c is None else entropy - c for c in c_t]
    errors = {}
    for name, values in predicted.items():
        squares = [(p - m) ** 2 for p, m in zip(values, measured, strict=True) if m is not None]
        errors[name] = (sum(squares) / len(squares)) ** 0.5
    return {"t": t.tolist(), "measured": measured, **predicted, "rms_error": errors}


@contextmanager
def _progress(console: Console, title: str, total: int) -> Iterator[Callable[[], None]]:
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=total)
        yield lambda: bar.advance(task)


def conclusion(record: Record) -> list[str]:
    """The two lines: where the information sits, and the bell that follows."""
    return [_where(record), _which_bell(record)]


def reasoning(record: Record) -> list[str]:
    """How the recommended bell comes about, and what speaks for and against it."""
    bell, found = record["bell"], record["mutual_information"]
    lines = []
    if bell["recipe"]:
        lines += [
            "Learnable at mask rate t, per position and with weight 1: t R(t), with R(t) the "
            "information that reaches a masked token.",
            f"R(t) is predicted from the information between two tokens at distances 1 to "
            f"{max(found['distances'])}, each visible token counting as evidence of its own; "
            f"t R(t) is largest at t = {bell['mean']:.2f}.",
            f"At that rate the chance of the masks alone changes what reaches a token as much as "
            f"a spread of {bell['std']:.2f} in t would: that is the width.",
        ]
    run = record["run"]
    if run is not None:
        errors = run["reach"]["rms_error"]
        listed = ", ".join(f"{name} {error:.2f}" for name, error in errors.items())
        lines.append(
            "The windows measure the information that this model can use, not all that the text "
            "holds."
        )
        lines.append(f"Predicted R(t) against the run's H - c(t), RMS error in nats: {listed}.")
        if run["bell"]:
            lines.append(f"The run's own c(t) and windows ask for {run['bell']['recipe']}.")
    return lines


def _where(record: Record) -> str:
    found = record["mutual_information"]
    at = {
        d: (nats, error)
        for d, nats, error in zip(found["distances"], found["nats"], found["stderr"], strict=True)
    }
    last = max(at)
    text = f"Of its {found['entropy']:.2f} nats a token shares " + ", ".join(
        f"{at[d][0]:.3g} ± {at[d][1]:.2g} with the token {d} away"
        for d in (1, 2, 4, last)
        if d in at
    )
    run = record["run"]
    if run is None:
        return text + "."
    held = run["sides"]["both"]["holds"]
    if not all(held.values()):
        return text + "; the model makes nothing of its context."
    parts = " and ".join(
        f"{part} within {v['tokens']:.1f} ± {v['stderr']:.1f} tokens" for part, v in held.items()
    )
    return f"{text}; of what this model can use, {parts}."


def _which_bell(record: Record) -> str:
    bell = record["bell"]
    if not bell["recipe"]:
        return f"{bell['why_not'][0].upper()}{bell['why_not'][1:]}."
    return f"The corpus asks for the recipe {bell['recipe']} (bell:auto computes it)."
