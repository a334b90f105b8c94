"""Recipes side by side: the same data, seeds and evaluation; steps and seconds to a level."""

from unmask.compare.arms import Arm, parse_arms
from unmask.compare.launch import Interrupted
from unmask.compare.plan import compare, summary_table
from unmask.compare.quality import QualityOptions

__all__ = ["Arm", "Interrupted", "QualityOptions", "compare", "parse_arms", "summary_table"]
