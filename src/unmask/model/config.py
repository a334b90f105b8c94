"""The size of the network: the ``model`` section of the configuration."""

from typing import Literal, Self

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
    convolution: int = Field(
        0,
        ge=0,
        le=64,
        description="Reach of a depthwise convolution over neighbours, at the embedding and before "
        "attention and feed-forward of each block; to both sides, in an autoregressive pass to "
        "the left. 0: none.",
    )
    loops: int = Field(
        1,
        ge=0,
        le=100,
        description="How often the early-middle half of the blocks is passed; no new weights, more "
        "work. 0 or 1: once.",
    )
    activation: Literal["swiglu", "relu2"] = Field(
        "swiglu",
        description="Of the feed-forward network; relu2: squared ReLU without a gate, and the same "
        "number of weights.",
    )
    zero_outputs: bool = Field(
        False,
        description="The last matrices of attention and feed-forward start at zero, so that every "
        "block begins by doing nothing.",
    )
    value_embedding: bool = Field(
        False, description="A second table of embeddings, added to the values of every block."
    )
    self_conditioning: bool = Field(
        False,
        description="The last states of a first pass, without gradient, are added to the "
        "embeddings of a second; in training in half of the steps.",
    )
    rope_theta: float = Field(10000.0, gt=0, description="Base of the rotary position frequencies.")

    @property
    def head_dim(self) -> int:
        """Width of one attention head, D / H."""
        return self.width // self.heads

    @property
    def mlp_width(self) -> int:
        """Hidden width of the feed-forward network: 4 D, of SwiGLU 8/3 D in multiples of 32.

        8/3 makes its three matrices cost what the two of a plain network do.
        """
        if self.activation == "relu2":
            return 4 * self.width
        return -(-8 * self.width // (3 * 32)) * 32

    @property
    def passes(self) -> list[int]:
        """The blocks in the order in which they are passed, by their indices."""
        first = self.layers // 4
        last = first + -(-self.layers // 2)
        looped = max(self.loops, 1) * list(range(first, last))
        return [*range(first), *looped, *range(last, self.layers)]

    @property
    def matrix_shapes(self) -> list[tuple[int, int]]:
        """(outputs, inputs) of a block's matrices: attention's, then the feed-forward network's."""
        width, hidden = self.width, self.mlp_width
        up = 1 if self.activation == "relu2" else 2
        return [*[(width, width)] * 4, *[(hidden, width)] * up, (width, hidden)]

    @property
    def block_matrices(self) -> int:
        """Weights in the matrices of all blocks."""
        return self.layers * sum(rows * columns for rows, columns in self.matrix_shapes)

    @property
    def block_parameters(self) -> int:
        """Weights in all blocks: matrices, norms, convolutions, scales."""
        others = 2 * self.width + 2 * self.head_dim + int(self.value_embedding)
        if self.convolution:
            others += 2 * self.width * (2 * self.convolution + 1)
        return self.block_matrices + self.layers * others

    @property
    def inner_parameters(self) -> int:
        """All weights but those of the embeddings and the head."""
        embedded = self.width * (2 * self.convolution + 1) if self.convolution else 0
        return self.block_parameters + self.width * (1 + self.self_conditioning) + embedded

    @model_validator(mode="after")
    def _check_late(self) -> Self:
        if not self.late:
            return self
        for name in ("convolution", "value_embedding", "self_conditioning"):
            if getattr(self, name):
                raise ValueError(f"late and {name} do not go together")
        passed = self.passes
        once = sum(passed.count(i) == 1 for i in range(self.layers // 4, self.layers))
        if self.loops > 1 and self.late > once:
            raise ValueError(
                f"late {self.late} of {self.layers} blocks are among those that loops repeat; "
                f"at most {once}"
            )
        return self

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
    opening: float = Field(
        0.0,
        ge=0,
        le=1,
        description="A causal model's attention opens over this part of the steps: each token sees "
        "more and more of what comes after it, at the end all. 0: all from the first step on.",
    )
    lora: int = Field(
        0,
        ge=0,
        le=10_000,
        description="Rank of low-rank adapters, which alone are trained and saved; 0: all weights.",
    )
