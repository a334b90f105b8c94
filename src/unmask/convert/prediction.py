"""How an exported model is called: what is the same for every network."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PretrainedConfig
from transformers.modeling_outputs import CausalLMOutput, MaskedLMOutput

IGNORED = -100
"""The label of a token that no loss is asked of."""


class MaskedPrediction:
    """Which token stands at a masked position, given all the others.

    What a model does of its own is `logits`.
    """

    config: Any

    def logits(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """Logits (B, L, V), at position i those of token i."""
        raise NotImplementedError

    def check_labels(self, input_ids: Tensor, labels: Tensor) -> None:
        """Raise a ValueError where a label cannot be asked for; here every one can."""

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
        if labels is not None:
            self.check_labels(input_ids, labels)
        logits = self.logits(input_ids, _valid(attention_mask))
        loss = None if labels is None else _loss(logits, labels)
        return _output(MaskedLMOutput(loss=loss, logits=logits), self.config, return_dict)


class NextPrediction:
    """Which token stands after those before it.

    A text begins with the start symbol, the tokenizer's ``bos_token``, which the tokenizer puts
    there itself. What a model does of its own is `logits`.
    """

    config: Any

    def logits(self, x: Tensor) -> Tensor:
        """Logits (B, L, V), at position i those of token i + 1."""
        raise NotImplementedError

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
        logits = self.logits(input_ids)
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
