"""Text from a trained run: from nothing, after a prompt, or in the gaps of a text."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.base.errors import UserError, unknown
from unmask.base.memory import check_memory
from unmask.data.documents import Message
from unmask.data.tokenizers import text_after
from unmask.diffusion.decoding import Decoding
from unmask.diffusion.sampler import SAMPLERS, generate, left_to_right
from unmask.run import Run

OnStep = Callable[[Tensor], None]

OnPredict = Callable[[Tensor, Tensor], None]
"""Called with each prediction before tokens are drawn from it: where (B, L') bool with M true, the
positions asked for, and logits (M, V). The next `OnStep` tells which of them were revealed. L' is
less than L only where a text is sampled from left to right."""

_GAP = re.compile(r"(\\*)(\[MASK(?:\*([0-9]+))?\])")


@dataclass(frozen=True)
class SamplerOptions:
    """How texts are drawn.

    Attributes:
        sampler: a name in `unmask.diffusion.sampler.SAMPLERS`.
        steps: denoising steps (`first-hitting` and a causal run always take one a token).
        temperature, top_k, top_p: as in `unmask.diffusion.decoding.Decoding`.
        block_length: fill so many tokens at a time, from left to right; None: all together.

    Raises:
        UserError: a name or number that is not valid.
    """

    sampler: str = "ancestral"
    steps: int = 64
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    block_length: int | None = None

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise unknown("sampler", self.sampler, SAMPLERS)
        _at_least_one("steps", self.steps)
        if self.block_length is not None:
            _at_least_one("block_length", self.block_length)
        _ = self.decoding

    @property
    def decoding(self) -> Decoding:
        """How a single token is drawn."""
        return Decoding(self.temperature, self.top_k, self.top_p)


def sample(
    run: Run,
    *,
    num: int = 4,
    length: int = 128,
    options: SamplerOptions | None = None,
    seed: int = 0,
    on_step: OnStep = lambda x: None,
    on_predict: OnPredict = lambda where, logits: None,
) -> list[str]:
    """Draw texts from nothing.

    Args:
        run: an opened run.
        num: how many texts.
        length: tokens each, at most the block size the run was trained on.
        options: how; None: as `SamplerOptions` says by itself.
        seed: the texts are a function of (weights, seed, num, length, options).
        on_step: called with the (num, length) tokens after each step.
        on_predict: called with each prediction of the model, a step before.

    Raises:
        UserError: a number out of range.
    """
    _at_least_one("num", num)
    check_length(length, run.config.corpus.block_size)
    _check_room(num, length)
    rows = [[run.tokenizer.mask_id] * length for _ in range(num)]
    options = options or SamplerOptions()
    filled = fill(run, rows, options, seed=seed, on_step=on_step, on_predict=on_predict)
    return [run.tokenizer.decode(_document(row, run)) for row in filled]


def complete(
    run: Run,
    prompts: Sequence[str],
    *,
    new_tokens: int,
    options: SamplerOptions,
    seed: int = 0,
    on_step: OnStep = lambda x: None,
    on_predict: OnPredict = lambda where, logits: None,
) -> list[str]:
    """Draw what follows each of several prompts; a run of any recipe.

    Returns:
        The continuations alone, of ``new_tokens`` tokens each. Prompt and continuation together
        are the text of all their tokens, wherever the prompt is the text of its own tokens. Where
        the tokenizer changes a prompt (lower case, say), a continuation is what the whole text has
        beyond the prompt as changed; if only spaces at the prompt's end are lost, one space at the
        continuation's beginning stands for them and is left out.

    Raises:
        UserError: a number out of range, or a prompt that with its continuation is longer than the
            run's block size.
    """
    encoded = encode_prompts(run, prompts)
    texts = complete_tokens(
        run,
        encoded,
        new_tokens=new_tokens,
        options=options,
        seed=seed,
        on_step=on_step,
        on_predict=on_predict,
    )
    if run.config.corpus.messages_field is not None:
        return texts
    return [
        # a tokenizer may leave out the spaces that a prompt ends with
        text.removeprefix(" ")
        if prompt[-1:].isspace() and not run.tokenizer.decode(ids)[-1:].isspace()
        else text
        for prompt, ids, text in zip(prompts, encoded, texts, strict=True)
    ]


def encode_prompts(run: Run, prompts: Sequence[str]) -> list[list[int]]:
    """Token ids of prompts, as in the records that a run was trained on.

    For a run on conversations each is what a user says first, written by the chat template.

    Raises:
        UserError: the template refuses one.
    """
    chat = run.tokenizer.chat
    if run.config.corpus.messages_field is None or chat is None:
        return [ids.tolist() for ids in run.tokenizer.encode(list(prompts))]
    return [chat.prompt_ids([Message("user", prompt)]) for prompt in prompts]


def continued(run: Run, prompt: str, text: str) -> str:
    """A prompt and what was drawn after it, as they are shown; an answer has a line of its own."""
    return prompt + ("" if run.config.corpus.messages_field is None else "\n") + text


def complete_tokens(
    run: Run,
    prompts: Sequence[list[int]],
    *,
    new_tokens: int,
    options: SamplerOptions,
    seed: int = 0,
    on_step: OnStep = lambda x: None,
    on_predict: OnPredict = lambda where, logits: None,
) -> list[str]:
    """Draw what follows each of several prompts, given by their token ids.

    Returns:
        What the new tokens add to the text of each prompt.

    Raises:
        UserError: as `complete`.
    """
    _at_least_one("length", new_tokens)
    rows = [ids + [run.tokenizer.mask_id] * new_tokens for ids in prompts]
    filled = fill(run, rows, options, seed=seed, on_step=on_step, on_predict=on_predict)
    return [
        text_after(run.tokenizer, ids, _document(row[len(ids) :], run))
        for row, ids in zip(filled, prompts, strict=True)
    ]


def infill(
    run: Run,
    template: str,
    *,
    num: int,
    options: SamplerOptions,
    seed: int = 0,
    on_step: OnStep = lambda x: None,
    on_predict: OnPredict = lambda where, logits: None,
) -> list[str]:
    """Draw what fits into the gaps of a text, given all that stands around them.

    Args:
        template: text with gaps, as `gaps` reads it.
        num: how many whole texts.

    Raises:
        UserError: no gap, an empty one, a causal run, or a text longer than the block size.
    """
    _at_least_one("num", num)
    if run.model.causal:
        raise UserError("infilling needs a bidirectional model: this run is autoregressive")
    row = gaps(template, run)
    _check_room(num, len(row))
    rows = [row] * num
    filled = fill(run, rows, options, seed=seed, on_step=on_step, on_predict=on_predict)
    return [run.tokenizer.decode(ids) for ids in filled]


def gaps(template: str, run: Run) -> list[int]:
    """Token ids of a text whose gaps are mask tokens.

    ``[MASK*12]`` is a gap of 12 tokens, ``[MASK]`` of one. A backslash before it makes it plain
    text: ``\\[MASK]`` is a plain word. Right before ``[MASK]`` and nowhere else, two backslashes
    are one: ``\\\\[MASK]`` is a backslash and a gap.

    Raises:
        UserError: there is no gap, one of no tokens, or one that is longer than the block size.
    """
    texts, sizes = [""], list[int]()
    end = 0
    for found in _GAP.finditer(template):
        slashes, marker, size = found.groups()
        texts[-1] += template[end : found.start()] + "\\" * (len(slashes) // 2)
        end = found.end()
        if len(slashes) % 2:
            texts[-1] += marker
        else:
            sizes.append(_gap_size(size or "1", run.config.corpus.block_size))
            texts.append("")
    texts[-1] += template[end:]
    if not sizes:
        raise UserError(
            "nothing to fill in: write [MASK*12] for a gap of 12 tokens, or [MASK] for one"
        )
    row: list[int] = run.tokenizer.encode(texts[:1])[0].tolist()
    for gap, text in zip(sizes, texts[1:], strict=True):
        row += [run.tokenizer.mask_id] * gap + run.tokenizer.encode_inside(text)
    return row


def has_gaps(template: str) -> bool:
    """Whether `gaps` finds a gap in a text, of whatever size."""
    return any(len(found[1]) % 2 == 0 for found in _GAP.finditer(template))


def _gap_size(digits: str, longest: int) -> int:
    digits = digits.lstrip("0") or "0"
    if digits == "0":
        raise UserError("[MASK*0] is a gap of no tokens; valid: [MASK*1] and more")
    if len(digits) > len(str(longest)) or int(digits) > longest:
        shown = digits if len(digits) <= 12 else f"{digits[:6]}... ({len(digits)} digits)"
        raise UserError(
            f"[MASK*{shown}] is a gap of more tokens than the run's block size, {longest}"
        )
    return int(digits)


@torch.no_grad()
def fill(
    run: Run,
    rows: Sequence[list[int]],
    options: SamplerOptions,
    *,
    seed: int,
    on_step: OnStep = lambda x: None,
    on_predict: OnPredict = lambda where, logits: None,
) -> list[list[int]]:
    """Fill the mask tokens of rows of any lengths.

    Raises:
        UserError: a row longer than the run's block size, or an option that a causal run has no
            use for.
    """
    longest = max(map(len, rows))
    check_fits(longest, run)
    model, mask_id = run.model, run.tokenizer.mask_id
    lengths = torch.tensor([len(row) for row in rows])
    padded = [row + [run.tokenizer.separator_id] * (longest - len(row)) for row in rows]
    device = model.head.weight.device
    x = torch.tensor(padded, device=device)
    even = bool((lengths == longest).all())
    valid = None if even else (torch.arange(longest) < lengths[:, None]).to(device)

    def denoise(x: Tensor, where: Tensor) -> Tensor:
        # a causal prefix may be shorter than the rows; its padding is never asked for
        hidden = model(x, None if model.causal else valid, predicted=where)
        logits: Tensor = model.head(hidden[where])
        on_predict(where, logits)
        return logits

    if model.causal:
        if options.sampler != "ancestral" or options.block_length is not None:
            raise UserError(
                "this run is autoregressive and sampled left to right: of the options only "
                "temperature, top-k and top-p apply"
            )
        x = left_to_right(denoise, x, mask_id, seed, options.decoding, on_step)
    else:
        x = generate(
            options.sampler,
            denoise,
            x,
            mask_id,
            steps=options.steps,
            seed=seed,
            decoding=options.decoding,
            block_length=options.block_length,
            on_step=on_step,
        )
    return [row[:n] for row, n in zip(x.tolist(), lengths.tolist(), strict=True)]


def check_length(length: int, block_size: int) -> None:
    """Refuse a number of new tokens that no block has room for.

    Raises:
        UserError: it is below 1 or above the run's block size.
    """
    if not 1 <= length <= block_size:
        raise UserError(
            f"length must be between 1 and {block_size} (the run's block size), not {length}"
        )


def check_fits(tokens: int, run: Run) -> None:
    """Refuse a text, its masks included, that is longer than the run's block size.

    Raises:
        UserError: it is.
    """
    block_size = run.config.corpus.block_size
    if tokens > block_size:
        raise UserError(
            f"{tokens} tokens, prompt and new ones together, are more than the run's block size, "
            f"{block_size}: give a shorter text, or a smaller length"
        )


def _check_room(num: int, length: int) -> None:
    check_memory(f"num {num} x {length} tokens of 8 bytes do not fit", 8 * num * length)


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise UserError(f"{name} must be at least 1, not {value}")


def _document(row: list[int], run: Run) -> list[int]:
    """A run on padded blocks learnt one document a block: what follows its end means nothing."""
    separator = run.tokenizer.separator_id
    if run.config.corpus.packing == "pad" and separator in row:
        return row[: row.index(separator)]
    return row
