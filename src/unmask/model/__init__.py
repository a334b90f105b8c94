"""The denoiser and its causal twin."""

from unmask.model.config import ModelConfig
from unmask.model.transformer import Transformer, parameter_count

__all__ = ["ModelConfig", "Transformer", "parameter_count"]
