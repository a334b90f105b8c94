"""Plots and the HTML page of a comparison, from its records on disk alone."""

from unmask.compare.report.write import write_report

__all__ = ["write_report"]
