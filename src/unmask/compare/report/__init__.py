"""Plots and the HTML page of a comparison, from its records on disk alone."""
