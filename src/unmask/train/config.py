"""The ``train`` and ``validation`` sections of the configuration."""

from typing import Literal

from pydantic import Field, field_validator

from unmask.base.errors import unknown
from unmask.base.numbers import LARGEST_COUNT, LARGEST_SEED
from unmask.base.section import Section
from unmask.train.optim import OPTIMIZERS


class TrainConfig(Section):
    """The optimisation of a run."""

    steps: int = Field(2000, ge=1, le=LARGEST_COUNT, description="optimiser steps")
    batch_size: int = Field(
        32, ge=1, le=LARGEST_COUNT, description="global batch: sequences per optimiser step"
    )
    accumulation: int = Field(
        1,
        ge=1,
        le=LARGEST_COUNT,
        description="micro-batches a step is computed in (same result, less memory)",
    )
    shorter: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the sequences that are cut at a random length in a step; the model "
        "then learns short texts too (LLaDA: 0.01)",
    )
    optimizer: str = Field(
        "muon",
        description=f"{', '.join(OPTIMIZERS)}; all but adamw are for the blocks' matrices, and the "
        "rest is AdamW's; normuon and soap need the extra optimizers",
    )
    learning_rate: float = Field(8e-3, gt=0, description="peak learning rate")
    embedding_rate: float = Field(
        1.0, gt=0, description="the embedding's learning rate, as a multiple of learning_rate"
    )
    head_rate: float = Field(
        1.0, gt=0, description="the head's learning rate, as a multiple of learning_rate"
    )
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW's decay of the gradient average")
    beta2: float = Field(0.98, ge=0, lt=1, description="AdamW's decay of the squared average")
    weight_decay: float = Field(0.0, ge=0, description="decoupled, on matrices only")
    warmup_steps: int = Field(20, ge=0, le=LARGEST_COUNT, description="steps of linear warm-up")
    schedule: Literal["constant", "cosine", "wsd"] = Field(
        "constant", description="after warm-up; wsd: constant, then a linear decay to zero"
    )
    decay_fraction: float = Field(
        0.2, gt=0, le=1, description="wsd: the last part of the steps, which decays"
    )
    grad_clip: float = Field(1.0, ge=0, description="largest gradient norm; 0: never clipped")
    skip: int = Field(
        10,
        ge=0,
        le=LARGEST_COUNT,
        description="most steps in a row that are left out because their gradient is not finite or "
        "a spike; one more, and training stops",
    )
    spike: float = Field(
        0.0,
        ge=0,
        description="a gradient norm of more than so many times its running average is a spike; 0: "
        "nothing is",
    )
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
    parallel: Literal["auto", "none", "ddp", "fsdp"] = Field(
        "auto",
        description="how several processes train together; ddp: each holds all weights; fsdp: "
        "each holds a part of them and of the optimiser's state, for big models; auto: ddp where "
        "torchrun has started several",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where to train")
    log_every: int = Field(
        10, ge=1, le=LARGEST_COUNT, description="steps between training lines in metrics.jsonl"
    )
    save_every: int | None = Field(
        None,
        ge=1,
        le=LARGEST_COUNT,
        description="steps between checkpoints; None: at every evaluation",
    )
    keep: int = Field(
        2, ge=1, le=LARGEST_COUNT, description="latest checkpoints to keep (the best is kept too)"
    )
    log_to: tuple[Literal["tensorboard", "wandb"], ...] = Field(
        (), strict=False, description="also log to these (each an extra of the package)"
    )

    @field_validator("optimizer")
    @classmethod
    def _registered(cls, name: str) -> str:
        if name not in OPTIMIZERS:
            raise unknown("optimizer", name, OPTIMIZERS)
        return name


class ValidationConfig(Section):
    """When and on how much text the validation bound is measured.

    The blocks and masks depend on this section alone: every evaluation of every recipe sees the
    same ones.
    """

    every: int = Field(
        200, ge=1, le=LARGEST_COUNT, description="steps between evaluations (and one at the end)"
    )
    blocks: int = Field(
        256, ge=2, le=LARGEST_COUNT, description="validation blocks, evenly spaced over the split"
    )
    draws: int = Field(4, ge=1, le=100_000, description="masks for each block, of stratified sizes")
    batch_size: int = Field(64, ge=1, le=LARGEST_COUNT, description="sequences per forward pass")
    seed: int = Field(0, ge=-LARGEST_SEED, le=LARGEST_SEED, description="seed of the masks")
