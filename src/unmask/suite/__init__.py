"""Whole models under test: what the text is worth that a run writes, and the tasks it can do."""
