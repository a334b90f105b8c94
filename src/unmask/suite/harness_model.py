"""A run as a model of EleutherAI's ``lm-eval``; import this only where that is installed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text
from torch import Tensor

from unmask.data.tokenizers import SEPARATOR_SHOWN
from unmask.diffusion.estimators import fixed_count
from unmask.diffusion.masking import exact_count, next_token
from unmask.diffusion.noise import Stream, uniform, uniform_double
from unmask.diffusion.objective import predicted_cross_entropy
from unmask.diffusion.sampler import ancestral, left_to_right
from unmask.errors import UserError
from unmask.run import Run, open_run

Pair = tuple[list[int], list[int]]
"""Token ids of a context, which may be empty, and of its continuation."""

_NEW_TOKENS = 256  # where a task does not say; lm-eval's own default
_GENERATION = {"until", "max_gen_toks", "do_sample", "temperature"}


@register_model("unmask")
class UnmaskLM(LM):  # type: ignore[misc]
    """The three kinds of requests that tasks are made of.

    A masked diffusion model's log-likelihood is the lower bound that its NELBO gives, an estimate
    from ``draws`` masks; a causal model's is exact. What is longer than the block size is cut on
    the left: of a context, its beginning is what the model does not see.

    Args:
        run: an opened run, or its folder.
        draws: masks for each continuation.
        seed: of masks and samples.
        batch_size: sequences per forward pass.
    """

    def __init__(
        self, run: Run | str | Path, draws: int = 16, seed: int = 0, batch_size: int | None = None
    ) -> None:
        super().__init__()
        self._run = run if isinstance(run, Run) else open_run(Path(run))
        self._draws, self._seed, self._batch_size = int(draws), int(seed), int(batch_size or 64)
        self._block_size = self._run.config.corpus.block_size

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Log-likelihood (nats) of each continuation, and whether greedy decoding gives it."""
        return self._score([self._pair(*request.args) for request in requests])

    def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
        """Log-likelihood (nats) of each whole text, in stretches where it is longer than a block.

        Stretches after the first are half a block, with the half block before each as context.
        """
        pairs = [(self._start(), self._encode(request.args[0])) for request in requests]
        return [nats for nats, _ in self._score(pairs, greedy=False)]

    def generate_until(self, requests: list[Any]) -> list[str]:
        """Complete each context, up to the first of the task's stop strings or the document's end.

        At most half a block is generated, so that the other half can hold the context's end. A
        task that does not sample gets the most probable token at every step.

        Raises:
            UserError: a task samples by an option that is not supported.
        """
        texts = []
        for request in requests:
            context, options = request.args[0], normalize_gen_kwargs(request.args[1], _NEW_TOKENS)
            unsupported = sorted(set(options) - _GENERATION)
            if unsupported and options["do_sample"]:
                raise UserError(
                    f"a task samples with {', '.join(unsupported)}; valid: "
                    f"{', '.join(sorted(_GENERATION))}"
                )
            new = max(1, min(options["max_gen_toks"], self._block_size // 2))
            temperature = options.get("temperature", 1.0) if options["do_sample"] else 0.0
            prompt = self._fitting(context, self._block_size - new)
            (text,) = _complete(self._run, [prompt], new, temperature, self._seed)
            stops = [*options["until"], SEPARATOR_SHOWN]
            texts.append(postprocess_generated_text(text, stops, None))
        return texts

    def _score(self, pairs: list[Pair], greedy: bool = True) -> list[tuple[float, bool]]:
        """Log-likelihood and whether greedy decoding gives it, of pairs of any length."""
        pieces = [
            (i, piece)
            for i, pair in enumerate(pairs)
            for piece in fitting_pieces(*pair, self._block_size)
        ]
        fitting = [piece for _, piece in pieces]
        nats = _conditional(self._run, fitting, self._draws, self._seed, self._batch_size)
        matches = _greedy(self._run, fitting) if greedy else [False] * len(fitting)
        results = [(0.0, greedy)] * len(pairs)
        for (i, _), (loss, _), match in zip(pieces, nats, matches, strict=True):
            results[i] = results[i][0] - loss, results[i][1] and match
        return results

    def _pair(self, context: str, continuation: str) -> Pair:
        """Encode both together, so that the tokens are those of the whole text.

        Spaces at a context's end belong to the continuation's first token. The context is taken
        for the beginning of a document.
        """
        stripped = context.rstrip(" ")
        whole, first = self._encode(context + continuation), len(self._encode(stripped))
        return self._start() + whole[:first], whole[first:]

    def _start(self) -> list[int]:
        """What stands before a document: a separator, but in blocks that hold one document."""
        tokenizer = self._run.tokenizer
        return [tokenizer.separator_id] if self._run.config.corpus.packing == "wrap" else []

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._run.tokenizer.encode([text])[0].tolist()
        return ids

    def _fitting(self, context: str, longest: int) -> str:
        """The end of a context that has at most ``longest`` tokens."""
        ids = self._encode(context)
        return context if len(ids) <= longest else self._run.tokenizer.decode(ids[-longest:])


def fitting_pieces(context: list[int], continuation: list[int], longest: int) -> list[Pair]:
    """Pairs of at most ``longest`` tokens whose log-likelihoods add up to that of one pair.

    The context is cut on the left. Only a continuation that does not fit is itself split: into
    halves of a block, each with what stands before it as context.
    """
    if len(continuation) + min(len(context), 1) <= longest:
        return [(_end(context, longest - len(continuation)), continuation)]
    step, pieces = max(1, longest // 2), list[Pair]()
    for start in range(0, len(continuation), step):
        piece = continuation[start : start + step]
        pieces.append((_end(context + continuation[:start], longest - len(piece)), piece))
    return pieces


def _end(ids: list[int], n: int) -> list[int]:
    return ids[len(ids) - min(n, len(ids)) :]


# The seams: likelihood, greedy decoding and completion, each in its simplest form.


@torch.no_grad()
def _conditional(
    run: Run, pairs: Sequence[Pair], draws: int, seed: int, batch_size: int
) -> list[tuple[float, float]]:
    """Bound on -log p(continuation | context) and its standard error over draws, in nats.

    Masks of exactly k tokens of the continuation, k stratified; the context stays visible. All
    continuations of one length get the same masks, so that the choices of a question differ in
    their tokens alone.
    """
    results = []
    for context, continuation in pairs:
        n = len(continuation)
        x = torch.tensor([context + continuation])
        if run.model.causal or n == 0:
            masks, weight = torch.ones(1, n, dtype=torch.bool), torch.ones(1, dtype=torch.float64)
        else:
            u = uniform_double(seed, Stream.EVAL_SIZE, 0, torch.zeros(1, dtype=torch.int64), draws)
            drawn = fixed_count(torch.tensor([n]), u)
            assert drawn.size is not None
            noise = uniform(seed, Stream.EVAL_MASK, 0, torch.arange(draws), n)
            masks, weight = exact_count(drawn.size[0], noise, None), drawn.weight[0]
        parts = torch.cat([_sums(run, x, some) for some in masks.split(batch_size)]) * weight
        error = 0.0 if run.model.causal else float(parts.std() * len(parts) ** 0.5)
        results.append((float(parts.sum()), error))
    return results


def _sums(run: Run, x: Tensor, masks: Tensor) -> Tensor:
    """(m,) summed cross-entropy of the tokens that are hidden at the end of x, for m masks."""
    m, n = masks.shape
    if n == 0:
        return torch.zeros(m, dtype=torch.float64)
    device = run.model.embedding.weight.device
    predicted = F.pad(masks, (x.shape[1] - n, 0)).to(device)
    x = x.expand(m, -1).to(device)
    if run.model.causal:
        inputs = next_token(x, x[:, 0], x, None, run.tokenizer.mask_id).inputs
    else:
        inputs = x.masked_fill(predicted, run.tokenizer.mask_id)
    ce, rows = predicted_cross_entropy(run.model(inputs), x, predicted, run.model.head)
    return torch.zeros(m, dtype=torch.float64).index_add(0, rows.cpu(), ce.double().cpu())


@torch.no_grad()
def _greedy(run: Run, pairs: Sequence[Pair]) -> list[bool]:
    """Whether greedy decoding after each context gives its continuation.

    A denoiser reveals the token it is surest of, one at a time; a causal model the next one.
    """
    return [_is_greedy(run, context, continuation) for context, continuation in pairs]


def _is_greedy(run: Run, context: list[int], continuation: list[int]) -> bool:
    mask_id, device = run.tokenizer.mask_id, run.model.embedding.weight.device
    target = torch.tensor([context + continuation], device=device)
    x, first = target.clone(), len(context)
    if run.model.causal:
        inputs = next_token(x, x[:, 0], x, None, mask_id).inputs
        guess = run.model.head(run.model(inputs)[:, first:]).argmax(dim=-1)
        return torch.equal(guess, target[:, first:])
    x[:, first:] = mask_id
    for _ in continuation:
        hidden = x[0] == mask_id
        best, guess = run.model.head(run.model(x)[0, hidden]).log_softmax(dim=-1).max(dim=-1)
        where = hidden.nonzero()[best.argmax()]
        x[0, where] = guess[best.argmax()]
        if not torch.equal(x[0, where], target[0, where]):
            return False
    return True


@torch.no_grad()
def _complete(
    run: Run, prompts: Sequence[str], new_tokens: int, temperature: float, seed: int
) -> list[str]:
    """Continue each prompt by so many tokens, one a step; temperature 0: the most probable one."""
    mask_id, device = run.tokenizer.mask_id, run.model.embedding.weight.device

    def denoise(x: Tensor, where: Tensor) -> Tensor:
        logits: Tensor = run.model.head(run.model(x)[where])
        if temperature > 0:
            return logits / temperature
        best = logits.argmax(dim=-1, keepdim=True)
        return torch.full_like(logits, -torch.inf).scatter(1, best, 0.0)

    texts = []
    for prompt in prompts:
        ids = run.tokenizer.encode([prompt])[0].tolist()
        x = torch.tensor([ids + [mask_id] * new_tokens], device=device)
        if run.model.causal:
            x = left_to_right(denoise, x, mask_id, seed)
        else:
            x = ancestral(denoise, x, mask_id, new_tokens, seed)
        texts.append(run.tokenizer.decode(x[0, len(ids) :].tolist()))
    return texts
