"""The ``train`` section of the configuration."""

from typing import Literal

from pydantic import Field, field_validator

from unmask.base.errors import unknown
from unmask.base.section import Section
from unmask.train.optim import OPTIMIZERS


class TrainConfig(Section):
    """The optimisation of a run."""

    steps: int = Field(2000, ge=1, description="optimiser steps")
    batch_size: int = Field(32, ge=1, description="global batch: sequences per optimiser step")
    accumulation: int = Field(
        1, ge=1, description="micro-batches a step is computed in (same result, less memory)"
    )
    optimizer: str = Field(
        "muon",
        description=f"{' or '.join(OPTIMIZERS)}; muon: the blocks' matrices by Muon, the rest by "
        "AdamW",
    )
    learning_rate: float = Field(8e-3, gt=0, description="peak learning rate")
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW's decay of the gradient average")
    beta2: float = Field(0.98, ge=0, lt=1, description="AdamW's decay of the squared average")
    weight_decay: float = Field(0.0, ge=0, description="decoupled, on matrices only")
    warmup_steps: int = Field(20, ge=0, description="steps of linear warm-up")
    schedule: Literal["constant", "cosine", "wsd"] = Field(
        "constant", description="after warm-up; wsd: constant, then a linear decay to zero"
    )
    decay_fraction: float = Field(
        0.2, gt=0, le=1, description="wsd: the last part of the steps, which decays"
    )
    grad_clip: float = Field(1.0, ge=0, description="largest gradient norm; 0: never clipped")
    ema: float = Field(
        0.0, ge=0, lt=1, description="decay of averaged weights, used wherever evaluated; 0: none"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="autocast; auto: bf16 on GPUs and CPUs whose matrix products have it"
    )
    recompute: bool = Field(
        False, description="compute the blocks again in the backward pass: less memory, more time"
    )
    compile: bool = Field(False, description="torch.compile the network")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where to train")
    log_every: int = Field(10, ge=1, description="steps between training lines in metrics.jsonl")
    save_every: int | None = Field(
        None, ge=1, description="steps between checkpoints; None: at every evaluation"
    )
    keep: int = Field(2, ge=1, description="latest checkpoints to keep (the best is kept too)")
    log_to: tuple[Literal["tensorboard", "wandb"], ...] = Field(
        (), description="also log to these (each an extra of the package)"
    )

    @field_validator("optimizer")
    @classmethod
    def _registered(cls, name: str) -> str:
        if name not in OPTIMIZERS:
            raise unknown("optimizer", name, OPTIMIZERS)
        return name
