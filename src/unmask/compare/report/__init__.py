"""Plots and the HTML page of a comparison, from its records on disk alone."""

from unmask.compare.report.page import write_report

__all__ = ["write_report"]
