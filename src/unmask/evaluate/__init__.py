"""Whole models under test: the likelihood of texts, texts of their own, tasks."""

from unmask.evaluate.likelihood import (
    Evaluation,
    LikelihoodOptions,
    evaluate_run,
    evaluate_subject,
)
from unmask.evaluate.subject import Subject, open_subject, subject_of

__all__ = [
    "Evaluation",
    "LikelihoodOptions",
    "Subject",
    "evaluate_run",
    "evaluate_subject",
    "open_subject",
    "subject_of",
]
