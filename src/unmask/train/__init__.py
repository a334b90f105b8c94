"""Training: the loop, optimisers, checkpoints and records; a file for each job."""

from unmask.train.checkpoint import Checkpoint, Progress, find_checkpoint
from unmask.train.config import TrainConfig
from unmask.train.loop import TRAINING_FAILED, Outcome, TrainingFailed, train

__all__ = [
    "TRAINING_FAILED",
    "Checkpoint",
    "Outcome",
    "Progress",
    "TrainConfig",
    "TrainingFailed",
    "find_checkpoint",
    "train",
]
