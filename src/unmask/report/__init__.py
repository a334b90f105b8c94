"""Plots and the HTML page of a comparison or a study, from its records on disk alone."""

from unmask.report.write import write_report

__all__ = ["write_report"]
