"""Whole models under test: the likelihood of texts, texts of their own, tasks."""
