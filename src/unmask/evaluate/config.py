"""The ``validation`` section of the configuration."""

from pydantic import Field

from unmask.section import Section


class ValidationConfig(Section):
    """When and on how much text the validation bound is measured.

    The blocks and masks depend on this section alone: every evaluation of every recipe sees the
    same ones.
    """

    every: int = Field(200, ge=1, description="steps between evaluations (and one at the end)")
    blocks: int = Field(256, ge=2, description="validation blocks, evenly spaced over the split")
    draws: int = Field(4, ge=1, description="masks for each block, of stratified sizes")
    batch_size: int = Field(64, ge=1, description="sequences per forward pass")
    seed: int = Field(0, description="seed of the masks")
