"""How good a model is: the validation bound (later also samples and downstream tasks)."""

from unmask.evaluate.config import ValidationConfig
from unmask.evaluate.validation import validate

__all__ = ["ValidationConfig", "validate"]
