"""What a training step changes, and how a checkpoint holds it."""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from torch import Tensor, nn
from torch.optim import Optimizer

from unmask.recipe.objective import Observers
from unmask.train.checkpoint import Checkpoint
from unmask.train.optim import optimizer_tensors, restore_optimizers

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class TrainingState(Generic[M]):
    """A network in training.

    Attributes:
        model: the network.
        optimizers: together they step every parameter once.
        average: the network with averaged weights, if they are kept.
        observers: what watches the steps, by the name of its checkpoint file.
    """

    model: M
    optimizers: list[Optimizer]
    average: M | None = None
    observers: Observers = field(default_factory=dict)

    @property
    def evaluated(self) -> M:
        """The network that is evaluated: the averaged one where there is one."""
        return self.model if self.average is None else self.average

    def files(self) -> dict[str, dict[str, Tensor]]:
        """What a checkpoint holds: file name -> tensors."""
        files = {
            "model": self.model.state_dict(),
            "optimizer": optimizer_tensors(self.optimizers, self.model),
        }
        if self.average is not None:
            files["ema"] = self.average.state_dict()
        return files | {name: observer.tensors() for name, observer in self.observers.items()}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take everything from a checkpoint."""
        self.model.load_state_dict(checkpoint.tensors("model"))
        restore_optimizers(self.optimizers, self.model, checkpoint.tensors("optimizer"))
        if self.average is not None:
            self.average.load_state_dict(checkpoint.tensors("ema"))
        for name, observer in self.observers.items():
            if checkpoint.has(name):  # the first checkpoints of all held none
                observer.restore(checkpoint.tensors(name))
