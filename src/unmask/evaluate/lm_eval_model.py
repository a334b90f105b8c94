"""A run as a model of EleutherAI's ``lm-eval``; import this only where that is installed."""

from pathlib import Path
from typing import Any

from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text

from unmask.base.errors import UserError
from unmask.data.tokenizers import SEPARATOR_SHOWN
from unmask.evaluate.conditional import Pair, conditional_nll, greedy_matches
from unmask.run import Run, open_run
from unmask.sample import SamplerOptions, complete_tokens

_NEW_TOKENS = 256  # where a task does not say; lm-eval's own default
_BROKEN, _LONGEST_LETTER = "\ufffd", 4  # how the rest of a letter of several bytes is shown
_GENERATION = {"until", "max_gen_toks", "do_sample", "temperature"}


@register_model("unmask")
class UnmaskLM(LM):  # type: ignore[misc]
    """The three kinds of requests that tasks are made of.

    A masked diffusion model's log-likelihood is the lower bound that its NELBO gives, an estimate
    from ``draws`` masks; a causal model's is exact. What is longer than the block size is cut on
    the left: of a context, its beginning is what the model does not see.

    Args:
        run: an opened run, or its folder.
        draws: masks for each continuation, an even number.
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
        """Log-likelihood (nats) of each continuation, and whether greedy decoding gives it.

        Every character of a continuation is scored: see `_pair`.

        Raises:
            UserError: nothing of a continuation can be scored.
        """
        return self._score([self._pair(request) for request in requests])

    def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
        """Log-likelihood (nats) of each whole text, in stretches where it is longer than a block.

        Stretches after the first are half a block, with the half block before each as context.
        """
        pairs = [(self._start(), self._encode(request.args[0])) for request in requests]
        for request, (_, ids) in zip(requests, pairs, strict=True):
            if request.args[0] and not ids:
                raise _nothing_to_score(request, request.args[0])
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
            prompt = self._last_tokens(context, self._block_size - new)
            # The surest token first where nothing is left to chance; a token a step.
            greedy = temperature == 0 and not self._run.model.causal
            sampler = "confidence" if greedy else "ancestral"
            (text,) = complete_tokens(
                self._run,
                [prompt],
                new_tokens=new,
                options=SamplerOptions(sampler, steps=new, temperature=temperature),
                seed=self._seed,
            )
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
        model, mask_id, size = self._run.model, self._run.tokenizer.mask_id, self._batch_size
        nats = conditional_nll(
            model, fitting, mask_id=mask_id, draws=self._draws, seed=self._seed, batch_size=size
        )
        matches = [False] * len(fitting)
        if greedy:
            matches = greedy_matches(model, fitting, mask_id=mask_id, batch_size=size)
        results = [(0.0, greedy)] * len(pairs)
        for (i, _), (loss, _), match in zip(pieces, nats, matches, strict=True):
            results[i] = results[i][0] - loss, results[i][1] and match
        return results

    def _pair(self, request: Any) -> Pair:
        """Encode both together, so that the tokens are those of the whole text.

        Spaces at a context's end belong to the continuation. A token that holds the context's last
        letters and the continuation's first is scored with the continuation, which so costs those
        letters as well: lm-eval's own models cut by the number of the context's tokens, and score
        no letter of a continuation that merges with its context. The context is taken for the
        beginning of a document.
        """
        context, continuation = request.args
        stripped = context.rstrip(" ")
        left, right = self._run.tokenizer.encode_pair(
            stripped, context[len(stripped) :] + continuation
        )
        if not continuation or not right:
            raise _nothing_to_score(request, continuation)
        return self._start() + left, right

    def _start(self) -> list[int]:
        """What stands before a document: a separator, but in blocks that hold one document."""
        tokenizer = self._run.tokenizer
        return [tokenizer.separator_id] if self._run.config.corpus.packing == "wrap" else []

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._run.tokenizer.encode([text])[0].tolist()
        return ids

    def _last_tokens(self, context: str, longest: int) -> list[int]:
        """The last of a context's tokens, beginning with a whole letter if they can."""
        ids = self._encode(context)
        if len(ids) <= longest:
            return ids
        ids = ids[-longest:]
        for start in range(min(_LONGEST_LETTER, len(ids))):
            if not self._run.tokenizer.decode(ids[start:]).startswith(_BROKEN):
                return ids[start:]
        return ids


def _nothing_to_score(request: Any, text: str) -> UserError:
    task, number = getattr(request, "task_name", None), getattr(request, "doc_id", None)
    where = "" if task is None else f"task {task}, example {number}: "
    why = "is empty" if not text else "has no token in the run's vocabulary"
    return UserError(f"{where}the text to be scored, {text[:40]!r}, {why}")


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
