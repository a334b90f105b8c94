"""Our network as a model of `transformers`.

In an exported folder this file stands behind the modules of the network that it imports from here,
written out into one file (`unmask.convert.source`).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel

from unmask.convert.prediction import IGNORED, MaskedPrediction, NextPrediction
from unmask.model.config import ModelConfig
from unmask.model.head import Head
from unmask.model.layers import Rotary
from unmask.model.transformer import Transformer


class UnmaskConfig(PretrainedConfig):  # type: ignore[no-untyped-call]
    """What an exported network is made from.

    Args:
        vocab_size: entries of the tokenizer.
        network: the ``model`` section of the run's configuration.
        start: a token before the inputs, position i - 1 of which predicts token i; None: token i is
            predicted at its place. In either case a masked model's logits at position i are those
            of token i.
        mask_token_id: the mask token.
        never_predicted: ids whose logit is -inf.
        causal: whether this is the autoregressive twin.
        separator: stands between documents, and attention stays within them; None: it goes over
            the whole text.
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
        causal: bool = False,
        separator: int | None = None,
        **others: Any,
    ) -> None:
        self.vocab_size, self.network, self.start = vocab_size, network or {}, start
        self.mask_token_id, self.never_predicted = mask_token_id, list(never_predicted)
        self.causal, self.separator = causal, separator
        others["tie_word_embeddings"] = False
        super().__init__(**others)


class _Unmask(PreTrainedModel):  # type: ignore[no-untyped-call]
    """What both models share.

    Raises:
        ValueError: the configuration is of the other model, or the file lacks weights.
    """

    config_class = UnmaskConfig
    base_model_prefix = "model"
    _no_split_modules = ["Transformer"]  # noqa: RUF012 - it stays on one device
    accepts_loss_kwargs = False  # the Trainer of `transformers` scales a loss that is a mean
    causal = False

    def __init__(self, config: UnmaskConfig) -> None:
        super().__init__(config)
        if config.causal != self.causal:
            other = "UnmaskForCausalLM" if config.causal else "UnmaskForMaskedLM"
            raise ValueError(f"this is a {other}, and no {type(self).__name__}")
        self._loading = torch.empty(0).is_meta  # every weight will be replaced by a file's
        with torch.device("cpu"):
            self.model = Transformer(
                ModelConfig(**config.network),
                config.vocab_size,
                config.never_predicted,
                mask_id=config.mask_token_id,
                causal=config.causal,
                start=config.start,
                separator=config.separator,
                seed=None if self._loading else 0,
            )
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> nn.Embedding:
        """The embedding of tokens."""
        embedding: nn.Embedding = self.model.embedding
        return embedding

    def get_output_embeddings(self) -> Head:
        """The projection onto the vocabulary."""
        head: Head = self.model.head
        return head

    def _init_weights(self, module: nn.Module) -> None:
        """Set what no file holds; `Transformer` has drawn its own weights, or a file has them."""
        weights = module.parameters(recurse=False)
        if self._loading and not all(getattr(w, "_is_hf_initialized", False) for w in weights):
            raise ValueError(f"the file of weights lacks some of a {type(module).__name__}'s")
        if isinstance(module, Rotary):
            module.tabulate()
        elif isinstance(module, Head):
            separator = self.config.separator
            between = [] if separator is None else [separator]
            module.exclude([*self.config.never_predicted, *between])


class UnmaskForMaskedLM(MaskedPrediction, _Unmask):  # type: ignore[no-untyped-call]
    """The denoiser: which token stands at a masked position, given all the others."""

    def logits(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """Of the network."""
        logits: Tensor = self.model.head(self.model(x, valid))
        return logits

    def check_labels(self, input_ids: Tensor, labels: Tensor) -> None:
        """Raise a ValueError where ``late`` predicts nothing."""
        if self.model.config.late:
            elsewhere = (labels != IGNORED) & (input_ids != self.config.mask_token_id)
            if bool(elsewhere.any()):
                raise ValueError("a network with `late` predicts at mask tokens alone; label those")


class UnmaskForCausalLM(NextPrediction, _Unmask, GenerationMixin):  # type: ignore[no-untyped-call]
    """The causal twin: which token stands after those before it."""

    causal = True

    def logits(self, x: Tensor) -> Tensor:
        """Of the network, which here puts no start symbol before the tokens."""
        stream = self.model.pass_blocks(x, None, causal=True)
        logits: Tensor = self.model.head(self.model.norm(stream))
        return logits
