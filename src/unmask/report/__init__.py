"""Plots and the HTML report of a comparison, from its records on disk alone."""

from unmask.report.write import write_report

__all__ = ["write_report"]
