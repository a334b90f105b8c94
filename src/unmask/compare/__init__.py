"""Recipes side by side: the same data, seeds and evaluation; steps and seconds to a level."""

from typing import TYPE_CHECKING

from unmask.base.front import on_demand

if TYPE_CHECKING:
    from unmask.compare.arms import Arm, parse_arms
    from unmask.compare.launch import Interrupted
    from unmask.compare.options import QualityOptions
    from unmask.compare.plan import compare, summary_table

__all__ = ["Arm", "Interrupted", "QualityOptions", "compare", "parse_arms", "summary_table"]

__getattr__ = on_demand(__name__, "options", "arms", "launch", "plan")
