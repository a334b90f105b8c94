"""A causal network of `transformers` that unmask has trained on, as a model of `transformers`.

In an exported folder this file stands behind the modules that it imports from here, written out
into one file (`unmask.convert.source`).
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, GenerationMixin, PretrainedConfig, PreTrainedModel

from unmask.convert.prediction import MaskedPrediction, NextPrediction
from unmask.model.directions import hidden_states
from unmask.model.head import Head


class UnmaskAdaptedConfig(PretrainedConfig):  # type: ignore[no-untyped-call]
    """What an exported network is made from.

    Args:
        network: the configuration of the network of `transformers`, as a dictionary.
        vocab_size: rows of the embedding and of the output layer.
        width: of the hidden states that the output layer reads.
        start: a token before the inputs, position i - 1 of which predicts token i; None: token i is
            predicted at its place. In either case a masked model's logits at position i are those
            of token i.
        mask_token_id: the mask token.
        causal: whether it has been left causal.
        separator: stands between documents, and attention stays within them; None: it goes over
            the whole text.
        others: what every model of `transformers` has.
    """

    model_type = "unmask-adapted"

    def __init__(
        self,
        network: dict[str, Any] | None = None,
        vocab_size: int = 50_257,
        width: int = 768,
        start: int | None = None,
        mask_token_id: int = 50_256,
        causal: bool = False,
        separator: int | None = None,
        **others: Any,
    ) -> None:
        self.network = network or {"model_type": "gpt2"}
        self.vocab_size, self.width, self.start = vocab_size, width, start
        self.mask_token_id, self.causal, self.separator = mask_token_id, causal, separator
        super().__init__(**others)


class _Adapted(PreTrainedModel):  # type: ignore[no-untyped-call]
    """What both models share.

    Raises:
        ValueError: the configuration is of the other model, or the file lacks the output layer.
    """

    config_class = UnmaskAdaptedConfig
    base_model_prefix = "network"
    accepts_loss_kwargs = False  # the Trainer of `transformers` scales a loss that is a mean
    causal = False

    def __init__(self, config: UnmaskAdaptedConfig) -> None:
        super().__init__(config)
        if config.causal != self.causal:
            other = "UnmaskAdaptedForCausalLM" if config.causal else "UnmaskAdaptedForMaskedLM"
            raise ValueError(f"this is a {other}, and no {type(self).__name__}")
        self._loading = torch.empty(0).is_meta  # every weight will be replaced by a file's
        inner = AutoConfig.for_model(**config.network)
        self.network = AutoModel.from_config(inner)  # type: ignore[no-untyped-call]
        embedding = self.network.get_input_embeddings()
        self.head = Head(config.width, config.vocab_size, ())
        self.head.register_buffer("bias", self.head.bias)  # the file has it, with the network's own
        (name,) = (n for n, m in self.network.named_modules() if m is embedding)
        self._tied_weights_keys = {"head.weight": f"network.{name}.weight"}
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> nn.Embedding:
        """The embedding of tokens."""
        embedding: nn.Embedding = self.network.get_input_embeddings()
        return embedding

    def get_output_embeddings(self) -> Head:
        """The projection onto the vocabulary."""
        return self.head

    def _init_weights(self, module: nn.Module) -> None:
        """Set what no file holds; the network of `transformers` does so itself."""
        if isinstance(module, Head):
            if self._loading:
                raise ValueError("the file of weights lacks some of the output layer's")
            nn.init.normal_(module.weight, std=0.02)


class UnmaskAdaptedForMaskedLM(MaskedPrediction, _Adapted):  # type: ignore[no-untyped-call]
    """The denoiser: a network that has learnt to look both ways."""

    def logits(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """Of the network."""
        how = {"start": self.config.start, "separator": self.config.separator}
        logits: Tensor = self.head(hidden_states(self.network, x, valid, causal=False, **how))
        return logits


class UnmaskAdaptedForCausalLM(NextPrediction, _Adapted, GenerationMixin):  # type: ignore[no-untyped-call]
    """The network left causal, as an autoregressive baseline."""

    causal = True

    def logits(self, x: Tensor) -> Tensor:
        """Of the network; the tokenizer has put the start symbol before the tokens."""
        how = {"start": None, "separator": self.config.separator}
        logits: Tensor = self.head(hidden_states(self.network, x, None, causal=True, **how))
        return logits
