"""How much ``unmask analyze learnability`` measures."""

from pydantic import Field

from unmask.base.section import Section


class Budget(Section):
    """How much is measured; the defaults take a few minutes at ``nano`` on 2 cores."""

    bins: int = Field(10, ge=2, description="bins of the mask rate")
    checkpoints: int = Field(
        1, ge=1, description="checkpoints of each recipe: the last, and others evenly spaced"
    )
    gradient_blocks: int = Field(
        32, ge=3, description="training blocks that gradients are taken of, in each bin"
    )
    gradient_masks: int = Field(2, ge=2, description="masks of each of these blocks")
    steps: int = Field(
        10, ge=1, description="optimiser steps in one bin, for a row of the transfer matrix"
    )
    restarts: int = Field(
        3, ge=2, description="times that each row is measured, on other training blocks and masks"
    )
    blocks: int = Field(
        32, ge=2, description="validation blocks on which c(t) is measured before and after"
    )
    draws: int = Field(1, ge=1, description="masks of each of these blocks, in each bin")
