"""How good a model is: the bound of blocks and of continuations, and a judge of texts."""

from unmask.evaluate.config import ValidationConfig
from unmask.evaluate.validation import validate

__all__ = ["ValidationConfig", "validate"]
