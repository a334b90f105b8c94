"""The model section of the configuration: derived sizes and clear refusals."""

import pytest
from pydantic import ValidationError

from unmask.base.errors import UserError
from unmask.model.config import ModelConfig


def test_derived_sizes():
    config = ModelConfig(width=128, heads=4)
    assert config.head_dim == 32
    assert config.mlp_width == 352  # 8/3 * 128 = 341.3
    assert ModelConfig(width=96).mlp_width == 256  # exact: not rounded past itself
    assert ModelConfig(width=768, heads=12).mlp_width == 2048


def test_every_field_is_described():
    assert all(field.description for field in ModelConfig.model_fields.values())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layers": 0}, "layers"),
        ({"width": -128}, "width"),
        ({"heads": 0}, "heads"),
        ({"rope_theta": 0.0}, "rope_theta"),
        ({"rope_theta": float("inf")}, "rope_theta"),
        ({"rope_theta": float("nan")}, "rope_theta"),
        ({"depth": 3}, "depth"),
        ({"width": 100, "heads": 3}, "width must be divisible by heads: 100 / 3 is not whole"),
        ({"width": 12, "heads": 4}, r"must be even .* 12 / 4 = 3"),
    ],
)
def test_bad_fields_are_refused_by_name(fields, message):
    with pytest.raises(UserError, match=message) as caught:
        ModelConfig(**fields)
    assert "\n" not in str(caught.value)


def test_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        ModelConfig().layers = 3
