"""Masked language models of `transformers` (BERT, ModernBERT ...), as denoisers.

Trained to fill in masked tokens, such a model is a masked diffusion model: at any mask rate it says
which token stands at a masked position. It has a NELBO like any other.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unmask.base.errors import UserError
from unmask.base.hub import loading
from unmask.model.transformer import Head


class MaskedLM(nn.Module):
    """Hidden states and vocabulary projection of a masked language model, apart.

    The model sees a text between the special tokens it was trained with, which are never masked
    and whose hidden states are left out.

    Args:
        network: an ``AutoModelForMaskedLM``; its output layer is taken off.
        frame: ids of the special tokens before and after a text, None where there is none.
        pad_id: stands in the padding.
        never_predicted: ids whose logit is -inf, besides those that the tokenizer does not have.
        vocab_size: how many ids the tokenizer has.
    """

    causal = False

    def __init__(
        self,
        network: Any,
        frame: tuple[int | None, int | None],
        pad_id: int,
        never_predicted: Sequence[int],
        vocab_size: int,
    ) -> None:
        super().__init__()
        layer = network.get_output_embeddings()
        if not isinstance(layer, nn.Linear):
            raise UserError(f"{type(network).__name__}: its output layer is not a linear map")
        if vocab_size > layer.out_features:
            raise UserError(
                f"{type(network).__name__}: its tokenizer has {vocab_size} tokens, "
                f"and it has {layer.out_features}"
            )
        self.frame, self.pad_id = frame, pad_id
        self.head = _head_of(layer, never_predicted, vocab_size)
        name = next(name for name, module in network.named_modules() if module is layer)
        network.set_submodule(name, nn.Identity())
        self.network = network

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Compute the hidden states that `head` turns into logits.

        Args:
            x: (B, L) int64 token ids.
            valid: (B, L) bool, False at padding, which stands at the right end; None: none.

        Returns:
            (B, L, D); meaningless at padding.
        """
        before, after = self.frame
        lengths = x.new_full((len(x),), x.shape[1]) if valid is None else valid.sum(dim=1)
        start = 0 if before is None else 1
        whole = start + x.shape[1] + (0 if after is None else 1)
        place = torch.arange(whole, device=x.device)[None, :] - start
        ids = x.new_full((len(x), whole), self.pad_id)
        ids[:, start : start + x.shape[1]] = x
        ids = ids.masked_fill(place >= lengths[:, None], self.pad_id)
        if before is not None:
            ids[:, 0] = before
        ends = lengths
        if after is not None:
            ids[torch.arange(len(x), device=x.device), start + lengths] = after
            ends = lengths + 1
        seen = place < ends[:, None]
        attention = None if bool(seen.all()) else seen.long()
        hidden: Tensor = self.network(input_ids=ids, attention_mask=attention).logits
        return hidden[:, start : start + x.shape[1]]


def _head_of(layer: nn.Linear, never_predicted: Sequence[int], vocab_size: int) -> Head:
    beyond = range(vocab_size, layer.out_features)
    head = Head(layer.in_features, layer.out_features, [*never_predicted, *beyond])
    head.weight = nn.Parameter(layer.weight, layer.weight.requires_grad)
    if layer.bias is not None:
        head.bias += layer.bias.detach()  # where nothing may be predicted it stays -inf
    return head


def load_masked_network(name: str) -> Any:
    """Load an ``AutoModelForMaskedLM`` in float32 from safetensors; no code of its own is run.

    Args:
        name: a local folder, or a name on the Hugging Face hub.

    Raises:
        UserError: it cannot be loaded, reads and writes text with two networks, or lacks weights.
    """
    from transformers import AutoModelForMaskedLM  # noqa: PLC0415

    valid = "the folder or hub name of a masked language model with safetensors"
    with loading(name, "masked language model", valid):
        network, info = AutoModelForMaskedLM.from_pretrained(
            name,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    if info["missing_keys"]:
        raise UserError(
            f"{name} lacks weights of a masked language model, "
            f"{sorted(info['missing_keys'])[0]} for one"
        )
    if network.config.is_encoder_decoder:
        raise UserError(f"{name} is an encoder with a decoder, not a masked language model")
    return network.eval()


def longest_input(network: Any) -> int:
    """The most tokens that a network of `transformers` has positions for, the special ones too."""
    positions = int(getattr(network.config, "max_position_embeddings", None) or 2**20)
    for name, module in network.named_modules():
        embedding = name.endswith("position_embeddings") and isinstance(module, nn.Embedding)
        if embedding and module.padding_idx is not None:  # RoBERTa's begin after the padding's id
            return positions - int(module.padding_idx) - 1
    return positions
