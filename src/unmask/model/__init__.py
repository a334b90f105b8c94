"""The denoiser and its causal twin."""

from typing import TYPE_CHECKING

from unmask.base.front import on_demand

if TYPE_CHECKING:
    from unmask.model.config import ModelConfig
    from unmask.model.transformer import Transformer, parameter_count

__all__ = ["ModelConfig", "Transformer", "parameter_count"]

__getattr__ = on_demand(__name__, "config", "transformer")
