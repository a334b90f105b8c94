"""Our network as a model of `transformers`.

In an exported folder this file stands behind the modules of the network that it imports from here,
written out into one file (`unmask.convert.source`).
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import MaskedLMOutput

from unmask.model.config import ModelConfig
from unmask.model.layers import Rotary
from unmask.model.network import Head
from unmask.model.transformer import Transformer


class UnmaskConfig(PretrainedConfig):  # type: ignore[no-untyped-call]
    """What an exported network is made from.

    Args:
        vocab_size: entries of the tokenizer.
        network: the ``model`` section of the run's configuration.
        start: a token before the inputs, position i - 1 of which predicts token i; None: token i is
            predicted at its place. In either case the logits at position i are those of token i.
        mask_token_id: the mask token.
        never_predicted: ids whose logit is -inf.
        others: what every model of `transformers` has.
    """

    model_type = "unmask"

    def __init__(
        self,
        vocab_size: int = 258,
        network: dict[str, Any] | None = None,
        start: int | None = None,
        mask_token_id: int = 257,
        never_predicted: Sequence[int] = (257,),
        **others: Any,
    ) -> None:
        self.vocab_size, self.network, self.start = vocab_size, network or {}, start
        self.mask_token_id, self.never_predicted = mask_token_id, list(never_predicted)
        others["tie_word_embeddings"] = False
        super().__init__(**others)


class UnmaskForMaskedLM(PreTrainedModel):  # type: ignore[no-untyped-call]
    """A masked diffusion language model: which token stands at a masked position."""

    config_class = UnmaskConfig
    base_model_prefix = "model"

    def __init__(self, config: UnmaskConfig) -> None:
        super().__init__(config)
        with torch.device("cpu"):  # `from_pretrained` would have no weights at all at first
            self.model = Transformer(
                ModelConfig(**config.network),
                config.vocab_size,
                config.never_predicted,
                mask_id=config.mask_token_id,
                start=config.start,
            )
        self.post_init()  # type: ignore[no-untyped-call]

    def _init_weights(self, module: object) -> None:
        """Fill what the weights' file does not hold; all else stays as it was drawn."""
        if isinstance(module, Rotary):
            module.tabulate()
        elif isinstance(module, Head):
            module.exclude(self.config.never_predicted)

    def get_input_embeddings(self) -> Any:
        """The embedding of tokens."""
        return self.model.embedding

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **_: Any,
    ) -> MaskedLMOutput:
        """Compute logits, and a loss if there are labels.

        Args:
            input_ids: (B, L) tokens, those to predict replaced by the mask token.
            attention_mask: (B, L), 0 at padding, which stands at the right end.
            labels: (B, L) clean tokens, -100 where none is asked for.

        Returns:
            ``logits`` (B, L, V), -inf at tokens that are never predicted; ``loss``: the mean
            cross-entropy of the labels, nats.
        """
        valid = None if attention_mask is None else attention_mask.bool()
        if valid is not None and bool(valid.all()):
            valid = None
        logits = self.model.head(self.model(input_ids, valid))
        loss = None
        if labels is not None:
            asked = labels != -100
            loss = F.cross_entropy(logits[asked].float(), labels[asked].to(torch.int64))
        return MaskedLMOutput(loss=loss, logits=logits)


def register() -> None:
    """Let ``AutoModelForMaskedLM`` and ``AutoConfig`` know an exported folder's kind."""
    from transformers import AutoConfig, AutoModelForMaskedLM  # noqa: PLC0415

    AutoConfig.register("unmask", UnmaskConfig, exist_ok=True)
    AutoModelForMaskedLM.register(UnmaskConfig, UnmaskForMaskedLM, exist_ok=True)
