"""Networks of `transformers` as denoisers: masked language models, and causal ones turned into one.

A masked language model (BERT, ModernBERT ...) is a masked diffusion model: at any mask rate it says
which token stands at a masked position. A causal one (Llama, Qwen, GPT-2 ...) becomes one when its
attention looks both ways; it goes on predicting each token at the position before it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from unmask.base.errors import UserError
from unmask.base.hub import check_weights, loading, locate
from unmask.model.directions import hidden_states
from unmask.model.flops import pretrained_flops
from unmask.model.head import Head
from unmask.model.late import Bounds
from unmask.model.network import Network

VALID = (
    "a run's folder; the folder or hub name of a masked or causal language model with safetensors; "
    "smollm2; FILE.gguf or NAME:FILE.gguf"
)
_ADAPTER = "lora_"  # in the names of adapters' weights
_LOOKED_AT = 6  # tokens that tell which way a network looks


class Pretrained(Network):
    """Hidden states and vocabulary projection of a network of `transformers`, apart.

    Args:
        network: gives hidden states; its output layer has been taken off.
        layer: that output layer; its weight may be the embedding's, its bias is not trained.
        never_predicted: ids whose logit is -inf, besides those that the tokenizer does not have.
        vocab_size: how many ids the tokenizer has.

    Raises:
        UserError: the layer is not a linear map, or has fewer outputs than the tokenizer ids.
    """

    def __init__(
        self, network: Any, layer: Any, never_predicted: Sequence[int], vocab_size: int
    ) -> None:
        super().__init__()
        kind = type(network).__name__
        if not isinstance(layer, nn.Linear):
            raise UserError(f"{kind}: its output layer is not a linear map")
        if vocab_size > layer.out_features:
            raise UserError(
                f"{kind}: its tokenizer has {vocab_size} tokens, and it has {layer.out_features}"
            )
        self.network, self.start, self._recompute = network, None, False
        self.adapters = False  # whether nothing else is trained
        self.head = _head_of(layer, never_predicted, vocab_size)
        self.register_state_dict_post_hook(_leave_out)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(_not_missing)  # type: ignore[no-untyped-call]

    @property
    def tied(self) -> bool:
        """Whether the head's weight is the embedding's."""
        return any(p is self.head.weight for p in self.network.parameters())

    @property
    def layers(self) -> list[nn.Module]:
        """Its blocks, in order: the longest list of modules that it holds."""
        lists = [list(m) for m in self.network.modules() if isinstance(m, nn.ModuleList)]
        return max(lists, key=len, default=[])

    @property
    def recompute(self) -> bool:
        """Whether the backward pass computes each block again."""
        return self._recompute

    @recompute.setter
    def recompute(self, wanted: bool) -> None:
        if wanted:
            self.network.gradient_checkpointing_enable({"use_reentrant": False})
        elif self._recompute:
            self.network.gradient_checkpointing_disable()
        self._recompute = wanted

    def training_flops(
        self,
        length: int,
        rates: Tensor,
        *,
        causal: bool,
        asked: bool,
        recompute: bool = False,
        conditioned: float = 0.0,
    ) -> float:
        """FLOPs of the forward and the backward pass over sequences, about."""
        weights = sum(p.numel() for block in self.layers for p in block.parameters())
        width = int(self.network.config.hidden_size)
        return pretrained_flops(
            weights,
            len(self.layers),
            width,
            self.head.weight.shape[0],
            length,
            rates,
            recompute=recompute,
            asked=asked,
        )


class Outline(Pretrained):
    """A network of which only the shape matters."""

    causal = False

    def forward(
        self,
        x: Tensor,
        valid: Tensor | None = None,
        causal: bool | None = None,
        *,
        predicted: Tensor | None = None,
        bounds: Bounds | None = None,
        conditioned: bool = True,
        reach: Tensor | None = None,
    ) -> Tensor:
        """Not to be run."""
        raise NotImplementedError


class MaskedLM(Pretrained):
    """A masked language model. It sees a text between the special tokens it was trained with.

    They are never masked, and their hidden states are left out.

    Args:
        network: an ``AutoModelForMaskedLM``; its output layer is taken off.
        frame: ids of the special tokens before and after a text, None where there is none.
        pad_id: stands in the padding.
        never_predicted, vocab_size: as of `Pretrained`.
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
        layer = network.get_output_embeddings()
        super().__init__(network, layer, never_predicted, vocab_size)
        self.frame, self.pad_id = frame, pad_id
        name = next(name for name, module in network.named_modules() if module is layer)
        network.set_submodule(name, nn.Identity())

    def forward(
        self,
        x: Tensor,
        valid: Tensor | None = None,
        causal: bool | None = None,
        *,
        predicted: Tensor | None = None,
        bounds: Bounds | None = None,
        conditioned: bool = True,
        reach: Tensor | None = None,
    ) -> Tensor:
        """Compute the hidden states that `head` turns into logits.

        Args:
            x: (B, L) int64 token ids.
            valid: (B, L) bool, False at padding, which stands at the right end; None: none.
            causal: must not be asked for.
            predicted, bounds, conditioned, reach: not needed; all states are computed, in one pass,
                and attention is open already.

        Returns:
            (B, L, D); meaningless at padding.
        """
        assert not causal
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
        attention = None if valid is None else (place < ends[:, None]).long()
        hidden: Tensor = self.network(input_ids=ids, attention_mask=attention).logits
        return hidden[:, start : start + x.shape[1]]


class CausalLM(Pretrained):
    """A causal language model that attends both ways, or causally where it is asked to.

    Args:
        network: an ``AutoModelForCausalLM``.
        start: a token before the inputs: position i - 1 predicts token i, as the model has learnt.
            None: the shift is dropped, and position i predicts token i.
        causal: whether it is left causal: the autoregressive baseline.
        separator: stands between documents, and attention stays within them; it is never predicted
            and must never be masked. None: attention goes over whole blocks.
        opening: as of `unmask.model.network.Network`.
        never_predicted, vocab_size: as of `Pretrained`.

    Raises:
        UserError: its causal mask cannot be switched off, or its logits are more than a linear map
            of its hidden states.
    """

    def __init__(
        self,
        network: Any,
        never_predicted: Sequence[int],
        vocab_size: int,
        *,
        start: int | None,
        causal: bool = False,
        separator: int | None = None,
        opening: float = 0.0,
    ) -> None:
        layer = network.get_output_embeddings()
        _check_head(network, layer)
        unpredicted = [] if separator is None else [separator]
        never_predicted = [*never_predicted, *unpredicted]
        super().__init__(network.base_model, layer, never_predicted, vocab_size)
        self.start, self.causal, self.separator = start, causal, separator
        self.opening = opening
        self._check_directions(type(network).__name__)

    def forward(
        self,
        x: Tensor,
        valid: Tensor | None = None,
        causal: bool | None = None,
        *,
        predicted: Tensor | None = None,
        bounds: Bounds | None = None,
        conditioned: bool = True,
        reach: Tensor | None = None,
    ) -> Tensor:
        """Compute the hidden states that `head` turns into logits.

        Args:
            x: (B, L) int64 token ids.
            valid: (B, L) bool, False at padding, which stands at the right end; None: none.
            causal: whether to attend causally; None: as it was made.
            reach: () int64, how far each token sees to its right while attention still opens; None:
                as far as there is anything.
            predicted, bounds, conditioned: not needed; all states are computed, in one pass.

        Returns:
            (B, L, D); meaningless at padding.
        """
        causal = self.causal if causal is None else causal
        return hidden_states(
            self.network,
            x,
            valid,
            start=self.start,
            causal=causal,
            separator=self.separator,
            reach=reach,
        )

    @torch.no_grad()
    def _check_directions(self, kind: str) -> None:
        """Change a token in the midst, and see which hidden states change with it."""
        x = torch.arange(1, _LOOKED_AT + 1)[None, :]
        other = x.clone()
        other[0, _LOOKED_AT // 2] = 0
        for causal in (False, True):
            try:
                states = [
                    hidden_states(self.network, tokens, None, start=None, causal=causal)
                    for tokens in (x, other)
                ]
                changed = (states[0] - states[1]).abs().amax(dim=(0, 2)) > 0
            except (RuntimeError, ValueError, TypeError, IndexError):  # no such mask
                changed = torch.full((_LOOKED_AT,), causal)
            before = changed[: _LOOKED_AT // 2]
            if bool(before.any()) == causal or (not causal and not bool(before.all())):
                what = "cannot be switched off" if not causal else "does not hold"
                raise UserError(
                    f"{kind}: its causal mask {what}, so it cannot become a masked diffusion model"
                )


def _head_of(layer: nn.Linear, never_predicted: Sequence[int], vocab_size: int) -> Head:
    beyond = range(vocab_size, layer.out_features)
    head = Head(layer.in_features, layer.out_features, [*never_predicted, *beyond])
    weight: Any = layer.weight  # the very same parameter: it may be the embedding's too
    head.weight = weight
    bias = head.bias if layer.bias is None else head.bias + layer.bias.detach()
    del head.bias
    head.register_buffer("bias", bias)  # where nothing may be predicted it stays -inf
    return head


def _leave_out(module: nn.Module, state: dict[str, Tensor], prefix: str, _: Any) -> None:
    """Keep a weight that serves as embedding and as head once; of adapters, keep nothing else."""
    assert isinstance(module, Pretrained)
    if module.tied:
        del state[f"{prefix}head.weight"]
    if module.adapters:
        for name, _weight in module.named_parameters():
            if _ADAPTER not in name:
                state.pop(prefix + name, None)


def _not_missing(module: nn.Module, keys: Any) -> None:
    """Load what `_leave_out` has left: the embedding's weight is the head's."""
    assert isinstance(module, Pretrained)
    if module.tied and "head.weight" in keys.missing_keys:
        keys.missing_keys.remove("head.weight")


@torch.no_grad()
def _check_head(network: Any, layer: Any) -> None:
    ids = torch.arange(1, 4)[None, :]
    output = network(input_ids=ids, use_cache=False, output_hidden_states=True)
    if not torch.allclose(layer(output.hidden_states[-1]), output.logits, rtol=1e-3, atol=1e-3):
        raise UserError(
            f"{type(network).__name__}: its logits are more than a linear map of its hidden states"
        )


def is_causal_lm(name: str) -> bool:
    """Whether a model of `transformers` is a causal language model, and not a masked one.

    Raises:
        UserError: it is neither, or cannot be had.
    """
    if locate(name, "model", VALID)[1] is not None:  # GGUF, whose networks all are causal
        return True
    kinds: list[str] = _config(name).architectures or []
    if any(kind.endswith("ForMaskedLM") for kind in kinds):
        return False
    if any(kind.endswith(("ForCausalLM", "LMHeadModel")) for kind in kinds):
        return True
    raise UserError(
        f"{name} is neither a masked nor a causal language model: its config.json names "
        f"{', '.join(kinds) or 'no architecture'}; valid: {VALID}"
    )


def load_masked_network(name: str) -> Any:
    """Load an ``AutoModelForMaskedLM`` in float32 from safetensors; no code of its own is run.

    Args:
        name: a local folder, or a name on the Hugging Face hub.

    Raises:
        UserError: it cannot be loaded, reads and writes text with two networks, or lacks weights.
    """
    from transformers import AutoModelForMaskedLM  # noqa: PLC0415

    valid = "the folder or hub name of a masked language model with safetensors"
    network = _load(AutoModelForMaskedLM, name, "masked language model", valid)
    if network.config.is_encoder_decoder:
        raise UserError(f"{name} is an encoder with a decoder, not a masked language model")
    return network.eval()


def load_causal_network(name: str) -> Any:
    """Load an ``AutoModelForCausalLM`` in float32 from safetensors or GGUF; no code of its own.

    Args:
        name: as `locate` takes it.

    Raises:
        UserError: it cannot be loaded, or lacks weights.
    """
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    return _load(AutoModelForCausalLM, name, "causal language model", VALID).eval()


def _load(kind: Any, name: str, what: str, valid: str) -> Any:
    place, gguf = locate(name, what, valid)
    config = _config(name)
    two_heads = UserError(
        f"{name} is damaged: its config.json ties the output layer to the embedding "
        "(tie_word_embeddings), and its file holds two that differ; set it to false there if they "
        "are meant to"
    )
    with loading(place, what, valid), _quietly():  # what matters of its report is told below
        try:
            network, info = kind.from_pretrained(
                place,
                config=config,
                use_safetensors=None if gguf else True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **({"gguf_file": gguf} if gguf else {}),
            )
        except NotImplementedError:  # it compares the two, one of which it could not read
            raise two_heads from None
    if info["mismatched_keys"]:
        weight, there, wanted = sorted(info["mismatched_keys"])[0]
        raise UserError(
            f"{name} is damaged: its {weight} is {_size(there)}, and its config.json asks for "
            f"{_size(wanted)}; where tokens were added, embedding, output layer and vocab_size "
            "must have grown alike"
        )
    if info["missing_keys"]:
        raise UserError(
            f"{name} lacks weights of a {what}, {sorted(info['missing_keys'])[0]} for one"
        )
    layer = network.get_output_embeddings()
    tied = getattr(config, "tie_word_embeddings", False) and layer is not None
    if tied and layer.weight is not network.get_input_embeddings().weight:
        raise two_heads
    return network


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep warnings of `transformers` back."""
    from transformers.utils import logging  # noqa: PLC0415

    before = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _config(name: str) -> Any:
    """A model's configuration, without dropout: training is a function of its counters alone."""
    from transformers import AutoConfig  # noqa: PLC0415

    place, gguf = locate(name, "model", VALID)
    check_weights(place, "model", VALID)
    with loading(place, "model", VALID):
        config = AutoConfig.from_pretrained(
            place, trust_remote_code=False, **({"gguf_file": gguf} if gguf else {})
        )
    for key, value in vars(config).items():
        if isinstance(value, float) and ("dropout" in key or key.endswith("pdrop")):
            setattr(config, key, 0.0)
    return config


def unlearnt(folder: str, causal: bool) -> Any:
    """The network of a configuration in a folder, its weights not yet what they will be."""
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM  # noqa: PLC0415

    kind: Any = AutoModelForCausalLM if causal else AutoModelForMaskedLM
    return kind.from_config(_config(folder), dtype=torch.float32).eval()


@torch.no_grad()
def make_room(network: Any, vocab_size: int, new: Sequence[int]) -> None:
    """Give new tokens, such as the mask, an embedding: the mean of all others.

    A head of its own, not tied to the embedding, gets the mean of its other rows there:
    `transformers` may leave rows that it adds to one as the memory was.

    Args:
        network: changed in place; its head grows with its embedding.
        vocab_size: how many ids the tokenizer has.
        new: ids that the network has not met.
    """
    rows = network.get_input_embeddings().num_embeddings
    known = min(rows, min(new, default=vocab_size))

    def tables() -> list[Tensor]:
        layers = network.get_input_embeddings(), network.get_output_embeddings()
        weights = [layer.weight for layer in layers if layer is not None]
        bias = getattr(layers[1], "bias", None)
        return weights if bias is None else [*weights, bias]

    means = [table[:known].mean(dim=0) for table in tables()]
    if vocab_size > rows:
        network.resize_token_embeddings(vocab_size, mean_resizing=False)
    for table, mean in zip(tables(), means, strict=True):
        table[list(new)] = mean


def add_adapters(model: Pretrained, rank: int, seed: int) -> None:
    """Train low-rank adapters of a network's linear maps, and nothing else (LoRA, by `peft`).

    Args:
        model: changed in place.
        rank: of the adapters; their scale is 2.
        seed: of their first weights.

    Raises:
        UserError: `peft` is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model  # noqa: PLC0415
    except ImportError:
        raise UserError("adapt.lora needs an extra: pip install 'unmask[lora]'") from None
    maps = {
        name
        for block in model.layers
        for name, module in block.named_modules()
        if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
    }
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=sorted(maps))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model.network)
    for name, p in model.named_parameters():
        p.requires_grad_(_ADAPTER in name)
    model.adapters = True


@torch.no_grad()
def merge_adapters(model: Pretrained) -> None:
    """Add adapters, if there are any, to the weights that they adapt, and take them off."""
    if not model.adapters:
        return
    for name, module in list(model.network.named_modules()):
        if hasattr(module, "get_base_layer"):
            module.merge()
            model.network.set_submodule(name, module.get_base_layer())
    model.adapters = False


def longest_input(network: Any) -> int:
    """The most tokens that a network of `transformers` has positions for, the special ones too."""
    positions = int(getattr(network.config, "max_position_embeddings", None) or 2**20)
    for name, module in network.named_modules():
        embedding = name.endswith("position_embeddings") and isinstance(module, nn.Embedding)
        if embedding and module.padding_idx is not None:  # RoBERTa's begin after the padding's id
            return positions - int(module.padding_idx) - 1
    return positions
