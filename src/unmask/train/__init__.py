"""Training: the loop, optimisers, checkpoints and records; a file for each job."""

from typing import TYPE_CHECKING

from unmask.base.front import on_demand

if TYPE_CHECKING:
    from unmask.train.checkpoint import Checkpoint, Progress, find_checkpoint
    from unmask.train.config import TrainConfig, ValidationConfig
    from unmask.train.loop import TRAINING_FAILED, Outcome, TrainingFailed, train

__all__ = [
    "TRAINING_FAILED",
    "Checkpoint",
    "Outcome",
    "Progress",
    "TrainConfig",
    "TrainingFailed",
    "ValidationConfig",
    "find_checkpoint",
    "train",
]

__getattr__ = on_demand(__name__, "config", "checkpoint", "loop")
