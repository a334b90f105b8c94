"""Recipes side by side: the same data, seeds and evaluation; steps and seconds to a level."""

from unmask.compare.arms import parse_arms
from unmask.compare.launch import Interrupted
from unmask.compare.plan import compare
from unmask.compare.quality import QualityOptions
from unmask.compare.records import load_comparison
from unmask.compare.tables import halves_table, summary, summary_table

__all__ = [
    "Interrupted",
    "QualityOptions",
    "compare",
    "halves_table",
    "load_comparison",
    "parse_arms",
    "summary",
    "summary_table",
]
