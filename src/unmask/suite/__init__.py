"""Whole models under test: a run or a Hugging Face model, opened and evaluated."""

from unmask.suite.likelihood import Evaluation, LikelihoodOptions, evaluate_run, evaluate_subject
from unmask.suite.subject import Subject, open_subject, subject_of

__all__ = [
    "Evaluation",
    "LikelihoodOptions",
    "Subject",
    "evaluate_run",
    "evaluate_subject",
    "open_subject",
    "subject_of",
]
