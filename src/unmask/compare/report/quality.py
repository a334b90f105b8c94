"""Plots of what ``unmask compare --evaluate`` measured: likelihood of other texts, own texts."""

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes

from unmask.compare.records import Arm, Comparison, Record
from unmask.compare.report.curves import draw_arm, seeds_sentence
from unmask.plot.figure import Plot
from unmask.plot.style import GREY, STEPS, heading, label_axes, limit, log_axis, panels

_Panel = tuple[Callable[[Record], bool], str, str, str]
"""Which records, their key, its label with the unit, and a heading."""


def other_texts(comparison: Comparison) -> Plot | None:
    """Bits per byte of each corpus over optimiser steps."""
    names = list(dict.fromkeys(r["corpus"] for r in _all(comparison) if r["kind"] == "corpus"))
    if not names:
        return None
    wanted: list[_Panel] = [
        (_of_corpus(name), "bits_per_byte", "bits per byte", str(name)) for name in names
    ]
    caption = (
        "The texts that were asked for, in the model's own tokens, at every checkpoint that was "
        f"evaluated; lower is better. {seeds_sentence(comparison)}"
    )
    return _panels(comparison, "other_texts", "Zero-shot likelihood", caption, wanted)


def generated_texts(comparison: Comparison) -> Plot | None:
    """Generative perplexity and, beside it, the entropy without which it misleads."""
    records = [r for r in _all(comparison) if r["kind"] == "generative"]
    if not records:
        return None
    judge = ", ".join(sorted({str(r.get("judge", "a judge")) for r in records}))
    wanted: list[_Panel] = [
        (_generative, "ppl", "generative perplexity", "lower is more fluent"),
        (_generative, "entropy", "unigram entropy (nats)", "near that of text is more varied"),
    ]
    caption = (
        f"Perplexity of the recipes' own samples under {judge}, and entropy of the token "
        "frequencies within a sample: a perplexity that falls together with it is repetition. "
        + seeds_sentence(comparison)
    )
    real = [r["text_ppl"] for r in records if "text_ppl" in r]
    entropy = [r["text_entropy"] for r in records if "text_entropy" in r]
    lines = {"ppl": real[0], "entropy": entropy[0]} if real and entropy else {}
    if lines:
        caption += " Grey line: the validation text itself."
    return _panels(comparison, "generated", "Generated texts", caption, wanted, lines)


def _panels(
    comparison: Comparison,
    name: str,
    title: str,
    caption: str,
    numbers: list[_Panel],
    lines: dict[str, float] | None = None,
) -> Plot:
    """A grid of axes, each with one number of every arm over the steps.

    Args:
        lines: key -> height of a line that stands for real text.
    """
    drawing, grid = panels(len(numbers), 2, 2.9)
    shown: set[int] = set()
    for axes, (wanted, key, label, over) in zip(grid, numbers, strict=True):
        shown |= {arm.index for arm in comparison.arms if _draw(axes, arm, wanted, key)}
        heights = [y for line in axes.lines for y in np.asarray(line.get_ydata(), float).tolist()]
        if lines and key in lines:
            axes.axhline(lines[key], color=GREY, linewidth=1.0)
            heights.append(lines[key])
        label_axes(axes, STEPS, label)
        if key == "ppl":
            log_axis(axes, min(heights) / 1.15, max(heights) * 1.15)
        else:
            limit(axes, heights, margin=0.06)
        heading(axes, over)
    arms = [arm for arm in comparison.arms if arm.index in shown]
    return Plot(name, title, caption, drawing, arms)


def _draw(axes: Axes, arm: Arm, wanted: Callable[[Record], bool], key: str) -> bool:
    return draw_arm(axes, arm, lambda run: [r for r in run.quality if wanted(r)], "step", key)


def _of_corpus(name: str) -> Callable[[Record], bool]:
    return lambda record: record["kind"] == "corpus" and record["corpus"] == name


def _generative(record: Record) -> bool:
    return bool(record["kind"] == "generative")


def _all(comparison: Comparison) -> list[Record]:
    return [record for arm in comparison.arms for run in arm.runs for record in run.quality]
