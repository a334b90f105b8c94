"""Our network as a model of `transformers`.

In an exported folder this file stands behind the modules of the network that it imports from here,
written out into one file (`unmask.convert.source`).
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput, MaskedLMOutput

from unmask.model.config import ModelConfig
from unmask.model.layers import Rotary
from unmask.model.network import Head
from unmask.model.transformer import Transformer

IGNORED = -100
"""The label of a token that no loss is asked of."""


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
        **others: Any,
    ) -> None:
        self.vocab_size, self.network, self.start = vocab_size, network or {}, start
        self.mask_token_id, self.never_predicted = mask_token_id, list(never_predicted)
        self.causal = causal
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
            module.exclude(self.config.never_predicted)


class UnmaskForMaskedLM(_Unmask):  # type: ignore[no-untyped-call]
    """The denoiser: which token stands at a masked position, given all the others."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
        **_: Any,
    ) -> Any:
        """Predict the tokens at all positions; a network with ``late`` at mask tokens alone.

        Args:
            input_ids: (B, L) int64.
            attention_mask: (B, L), 0 at padding, which stands at the right end; None: none.
            labels: (B, L) int64, the tokens asked for, -100 where none is; None: no loss.
            return_dict: False for a plain tuple.

        Returns:
            ``logits`` (B, L, V), -inf at ids that are never predicted; ``loss``, the mean
            cross-entropy of the labels in nats.

        Raises:
            ValueError: padding that does not stand at the right end, or a label where ``late``
                predicts nothing.
        """
        if labels is not None and self.model.config.late:
            elsewhere = (labels != IGNORED) & (input_ids != self.config.mask_token_id)
            if bool(elsewhere.any()):
                raise ValueError("a network with `late` predicts at mask tokens alone; label those")
        hidden = self.model(input_ids, _valid(attention_mask))
        logits = self.model.head(hidden)
        loss = None if labels is None else _loss(logits, labels)
        return _output(MaskedLMOutput(loss=loss, logits=logits), self.config, return_dict)


class UnmaskForCausalLM(_Unmask, GenerationMixin):  # type: ignore[no-untyped-call]
    """The causal twin: which token stands after those before it.

    A text begins with the start symbol, the tokenizer's ``bos_token``, which the twin's tokenizer
    puts there itself.
    """

    causal = True

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
        **_: Any,
    ) -> Any:
        """Predict at every position the token after it.

        Args:
            input_ids: (B, L) int64, the start symbol first.
            attention_mask: (B, L), 0 at padding, which stands at the right end; None: none.
            labels: (B, L) int64, ``input_ids`` themselves, -100 where no loss is asked for; None:
                no loss.
            return_dict: False for a plain tuple.

        Returns:
            ``logits`` (B, L, V), -inf at ids that are never predicted; ``loss``, the mean
            cross-entropy of the labels after the first in nats.

        Raises:
            ValueError: padding that does not stand at the right end.
        """
        _valid(attention_mask)  # what stands at the right end no other position sees
        stream = self.model.pass_blocks(input_ids, None, causal=True)
        logits = self.model.head(self.model.norm(stream))
        loss = None if labels is None else _loss(logits[:, :-1], labels[:, 1:])
        return _output(CausalLMOutput(loss=loss, logits=logits), self.config, return_dict)

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any
    ) -> dict[str, Any]:
        """All tokens each time: nothing is kept of the tokens before."""
        return {"input_ids": input_ids, "attention_mask": attention_mask}


def _valid(attention_mask: Tensor | None) -> Tensor | None:
    """Which positions are no padding, (B, L) bool; None: all of them."""
    if attention_mask is None:
        return None
    if attention_mask.ndim != 2:
        raise ValueError(f"attention_mask must be (B, L), not {tuple(attention_mask.shape)}")
    valid = attention_mask.bool()
    if bool((valid[:, 1:] & ~valid[:, :-1]).any()):
        raise ValueError("attention_mask: padding must stand at the right end of a row")
    return None if bool(valid.all()) else valid


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    exact = torch.promote_types(logits.dtype, torch.float32)
    return F.cross_entropy(logits.flatten(0, -2).to(exact), labels.flatten(), ignore_index=IGNORED)


def _output(output: Any, config: PretrainedConfig, return_dict: bool | None) -> Any:
    plain = return_dict is False or (return_dict is None and config.return_dict is False)
    return output.to_tuple() if plain else output
