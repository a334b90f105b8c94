"""The command line: a file for each command. Thin: they parse, call and print."""

from unmask.cli.main import main

__all__ = ["main"]
