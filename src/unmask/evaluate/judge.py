"""A judge: a causal language model that says how likely a text is."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from unmask.base.errors import UserError
from unmask.base.hub import PACKAGED, check_weights, loading, locate
from unmask.data.tokenizers import HubTokenizer

DEFAULT_JUDGE = PACKAGED
_LONGEST_WINDOW = 1024  # what the field's judges, the GPT-2 family, read at once
_TOKENS_AT_A_TIME = 2048  # of a batch; a vocabulary of 50,000 makes that 0.4 GB of logits
_VALID = (
    f"{DEFAULT_JUDGE}, the folder or hub name of a causal language model with safetensors, "
    "or FILE.gguf or NAME:FILE.gguf"
)
_EXTRA = "; GGUF files need the extra: pip install 'unmask[judge]'"


@dataclass(frozen=True)
class _Window:
    """A stretch of one text that the judge reads at once, and from where on it is scored."""

    text: int
    ids: NDArray[np.int64]
    first: int


class Judge:
    """A causal language model of `transformers` and its tokenizer.

    Args:
        name: what it is called in records.
        model: takes ``input_ids`` and ``attention_mask``, gives ``logits``.
        fast: its fast tokenizer.

    Raises:
        UserError: the model is not causal.
    """

    def __init__(self, name: str, model: Any, fast: Any) -> None:
        self.name = name
        self._model = model.eval()
        self._tokenizer = HubTokenizer(fast)
        self._vocab_size: int = model.get_input_embeddings().num_embeddings
        longest = getattr(model.config, "max_position_embeddings", None) or _LONGEST_WINDOW
        self.window: int = min(longest, _LONGEST_WINDOW)
        if self.window < 2 or not self._is_causal():
            raise UserError(f"judge {name!r} is no causal language model; valid: {_VALID}")

    def encode(self, texts: Sequence[str]) -> list[NDArray[np.int64]]:
        """Token ids of each text; the name of a special token in a text is plain text to it.

        Raises:
            UserError: the tokenizer insists on a special token, or has ids the model lacks.
        """
        try:
            encoded = self._tokenizer.encode(list(texts))
        except UserError as error:
            raise UserError(
                f"judge {self.name!r} takes a part of a text for one of its special tokens; "
                "choose another judge"
            ) from error
        if any(len(ids) and ids.max() >= self._vocab_size for ids in encoded):
            raise UserError(
                f"judge {self.name!r}: its tokenizer has ids beyond the {self._vocab_size} that "
                "its model knows; they do not belong together"
            )
        return encoded

    @torch.no_grad()
    def score(
        self, texts: Sequence[str], on_batch: Callable[[int, int], None] = lambda done, total: None
    ) -> tuple[Tensor, Tensor]:
        """Negative log-likelihood of each text.

        The first token of a text is not scored, as in the field: it has no context, and what
        stands for "no context" differs between judges. A text longer than ``window`` tokens is
        read in windows that overlap by half, each token scored once.

        Args:
            texts: any.
            on_batch: called with the windows done and in all, after each batch.

        Returns:
            (n,) float64 nats and (n,) int64 scored tokens of each text. They do not depend on how
            the texts are put into batches, beyond rounding.

        Raises:
            UserError: a text is empty or a single token to the judge, so nothing can be scored.
        """
        encoded = self.encode(texts)
        short = [i for i, ids in enumerate(encoded, 1) if len(ids) < 2]
        if short or not encoded:
            which = f"{len(short)} of {len(encoded)} texts are" if encoded else "there are no texts"
            also = f" empty or a single token (the first: text {short[0]})" if short else ""
            raise UserError(f"{which}{also}: judge {self.name!r} can score nothing")
        windows = [w for i, ids in enumerate(encoded) for w in _windows(i, ids, self.window)]
        nats = torch.zeros(len(encoded), dtype=torch.float64)
        done = 0
        for batch in _batches(windows):
            which_text = torch.tensor([window.text for window in batch])
            nats.index_add_(0, which_text, self._batch_nats(batch))
            done += len(batch)
            on_batch(done, len(windows))
        return nats, torch.tensor([len(ids) - 1 for ids in encoded])

    def _batch_nats(self, batch: Sequence[_Window]) -> Tensor:
        """(B,) float64 summed cross-entropy of the scored tokens; padding stands at the right."""
        longest = len(batch[0].ids)
        ids = torch.zeros(len(batch), longest, dtype=torch.int64)
        there, scored = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
        for row, window in enumerate(batch):
            n = len(window.ids)
            ids[row, :n] = torch.from_numpy(window.ids)
            there[row, :n] = 1
            scored[row, window.first : n] = True
        targets = ids.masked_fill(~scored, -100)[:, 1:]
        logits = self._logits(ids, there)[:, :-1]
        targets = targets.to(logits.device)
        ce = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none")
        return ce.view(targets.shape).cpu().double().sum(dim=1)

    def _logits(self, ids: Tensor, there: Tensor) -> Tensor:
        device = self._model.device
        output = self._model(
            input_ids=ids.to(device), attention_mask=there.to(device), use_cache=False
        )
        logits: Tensor = output.logits
        return logits

    @torch.no_grad()
    def _is_causal(self) -> bool:
        """Whether a last token changes nothing before it: an encoder's perplexity means nothing."""
        n = min(4, self.window)
        ids = torch.ones(2, n, dtype=torch.int64)
        ids[1, -1] = 0
        first, second = self._logits(ids, torch.ones_like(ids))[:, : n - 1].float()
        return torch.allclose(first, second, rtol=1e-3, atol=1e-3)


def load_judge(spec: str = DEFAULT_JUDGE, device: torch.device | None = None) -> Judge:
    """Load a judge.

    Args:
        spec: ``smollm2``; the folder or hub name of a causal language model with safetensors;
            ``FILE.gguf``, or ``NAME:FILE.gguf`` for one file of a folder or hub repository.
        device: where it runs; None: the CPU.

    Raises:
        UserError: it cannot be loaded. Weights that would have to be unpickled, and code from the
            hub, are refused.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    name, gguf = locate(spec, "judge", _VALID)
    check_weights(name, "judge", _VALID)
    options: dict[str, Any] = {"trust_remote_code": False}
    if gguf is not None:
        options["gguf_file"] = gguf
    with loading(name, "judge", _VALID + _EXTRA * (gguf is not None)):
        fast = AutoTokenizer.from_pretrained(name, **options)
        model: Any = AutoModelForCausalLM.from_pretrained(
            name, dtype=torch.float32, use_safetensors=None if gguf else True, **options
        )
    if not getattr(fast, "is_fast", False):
        raise UserError(f"judge {spec!r} has no fast tokenizer; valid: {_VALID}")
    return Judge(spec, model.to(device or torch.device("cpu")), fast)


def _windows(text: int, ids: NDArray[np.int64], longest: int) -> Iterator[_Window]:
    """Windows of at most ``longest`` tokens; all but a text's first score their second half."""
    end = min(len(ids), longest)
    yield _Window(text, ids[:end], 1)
    while end < len(ids):
        before, end = end, min(len(ids), end + max(1, longest // 2))
        start = end - longest
        yield _Window(text, ids[start:end], before - start)


def _batches(windows: list[_Window]) -> Iterator[list[_Window]]:
    """Windows of like lengths together, the longest first."""
    ordered = sorted(windows, key=lambda window: -len(window.ids))
    while ordered:
        n = max(1, _TOKENS_AT_A_TIME // len(ordered[0].ids))
        yield ordered[:n]
        ordered = ordered[n:]
