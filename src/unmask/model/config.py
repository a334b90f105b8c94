"""The size of the network: the ``model`` section of the configuration."""

from typing import Self

from pydantic import Field, model_validator

from unmask.base.section import Section


class ModelConfig(Section):
    """Shape of a `Transformer`; its vocabulary comes from the tokenizer, not from here."""

    layers: int = Field(4, gt=0, le=10_000, description="Transformer blocks.")
    width: int = Field(128, gt=0, le=1_000_000, description="Width D of the residual stream.")
    heads: int = Field(
        4, gt=0, le=1_000_000, description="Attention heads H; must divide the width."
    )
    shift: bool = Field(
        False,
        description="Predict each token at the position before it, behind a start symbol. Recipes "
        "with autoregressive samples, and model.late, do so anyway.",
    )
    late: int = Field(
        0,
        ge=0,
        description="How many last blocks masked positions pass; visible tokens alone pass those "
        "before. 0: all blocks, and not only where a token is predicted.",
    )
    rope_theta: float = Field(10000.0, gt=0, description="Base of the rotary position frequencies.")

    @property
    def head_dim(self) -> int:
        """Width of one attention head, D / H."""
        return self.width // self.heads

    @property
    def mlp_width(self) -> int:
        """Hidden width of the SwiGLU: 8/3 D, rounded up to a multiple of 32.

        8/3 makes its three matrices cost what the two of a plain 4 D network would.
        """
        return -(-8 * self.width // (3 * 32)) * 32

    @property
    def block_parameters(self) -> int:
        """Weights in all blocks: the matrices of attention and SwiGLU, and the norms."""
        matrices = self.width * (4 * self.width + 3 * self.mlp_width)
        return self.layers * (matrices + 2 * self.width + 2 * self.head_dim)

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.width % self.heads:
            raise ValueError(
                f"width must be divisible by heads: {self.width} / {self.heads} is not whole"
            )
        if self.head_dim % 2:
            raise ValueError(
                f"width / heads must be even (rotary positions turn pairs), "
                f"but {self.width} / {self.heads} = {self.head_dim}"
            )
        return self


class AdaptConfig(Section):
    """How a pretrained network is trained on; only where ``init`` names one."""

    keep_shift: bool = Field(
        True,
        description="A causal model goes on predicting each token at the position before it; "
        "otherwise at its own.",
    )
    lora: int = Field(
        0,
        ge=0,
        le=10_000,
        description="Rank of low-rank adapters, which alone are trained and saved; 0: all weights.",
    )
