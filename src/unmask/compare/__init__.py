"""Recipes side by side: the same data, seeds and evaluation; steps and seconds to a level."""

from typing import TYPE_CHECKING

from unmask.base.front import on_demand

if TYPE_CHECKING:
    from unmask.compare.arms import parse_arms
    from unmask.compare.launch import Interrupted
    from unmask.compare.options import QualityOptions
    from unmask.compare.plan import compare
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

__getattr__ = on_demand(__name__, "options", "arms", "launch", "plan", "records", "tables")
