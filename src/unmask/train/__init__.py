"""Training: the loop, optimisers, checkpoints and records; a file for each job."""

from unmask.train.checkpoint import Checkpoint, Progress, find_checkpoint
from unmask.train.config import TrainConfig
from unmask.train.loop import Outcome, TrainingFailed, train

__all__ = [
    "Checkpoint",
    "Outcome",
    "Progress",
    "TrainConfig",
    "TrainingFailed",
    "find_checkpoint",
    "train",
]
