"""``unmask sample``."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from unmask.base.errors import UserError
from unmask.base.files import write_whole
from unmask.base.text import visible
from unmask.cli.base import RunArguments, check_output, open_on_device, progress_bar, run_folder
from unmask.cli.options import parse, says_flags
from unmask.cli.output import print_result
from unmask.config import Config, load_config

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from torch import Tensor

    from unmask.base.console import PlainConsole
    from unmask.run import Run
    from unmask.sample import SamplerOptions

_LENGTH = 128
_STEPS = 64


class SampleArguments(RunArguments):
    """Print texts drawn from a trained run: from nothing, after prompts, or in the gaps of a text.

    Examples:
    unmask sample runs/a --sampler confidence --steps 32 --temperature 0.8
    unmask sample runs/a --prompt "It was" "She had" --length 40 --watch
    unmask sample runs/a --infill "def add(a, b):[MASK*12]return c"
    """

    num: int = Field(4, ge=1, description="how many texts (for each prompt)")
    length: int | None = Field(
        None,
        ge=1,
        description=f"new tokens in each; by default {_LENGTH}, or what the run's block size "
        "leaves room for",
    )
    prompt: tuple[str, ...] = Field((), description="texts to continue")
    infill: str | None = Field(
        None,
        description="a text with gaps to fill: [MASK*12] for 12 tokens, [MASK] for one; "
        r"\[MASK] is plain text",
    )
    infill_file: Path | None = Field(None, description="a file with such a text")
    sampler: str = Field(
        "ancestral",
        description="in which order positions are revealed: ancestral, first-hitting, confidence, "
        "margin or entropy",
    )
    steps: int | None = Field(
        None,
        ge=1,
        description="denoising steps; more are slower and better, up to one a token; by default "
        f"{_STEPS}",
    )
    temperature: float = Field(
        1.0,
        ge=0,
        allow_inf_nan=False,
        description="below 1 likelier tokens, 0 always the likeliest",
    )
    top_p: float = Field(
        1.0,
        gt=0,
        le=1,
        description="draw from the likeliest tokens that together hold this much of the "
        "probability",
    )
    top_k: int = Field(0, ge=0, description="draw from this many likeliest tokens; 0: all")
    block_length: int | None = Field(
        None,
        ge=1,
        description="fill this many tokens at a time, from left to right; by default all together",
    )
    watch: bool = Field(False, description="show in the terminal how the tokens are unmasked")
    out: Path | None = Field(None, description="file that the texts, or the JSON lines, go to")


@says_flags(SampleArguments)
def sample_command(arguments: Sequence[str]) -> int:
    """Run ``unmask sample``."""
    asked = parse(SampleArguments, "unmask sample", arguments)
    template = _template(asked)
    if asked.out is not None:
        check_output(asked.out)
    config = load_config(run_folder(asked.run) / "config.yaml")
    from unmask.base.console import PlainConsole
    from unmask.sample import SamplerOptions

    options = SamplerOptions(
        asked.sampler,
        asked.steps or _STEPS,
        asked.temperature,
        asked.top_k,
        asked.top_p,
        asked.block_length,
    )
    _check(asked, template, config)
    run = open_on_device(asked.run, asked)
    console = PlainConsole()
    with _progress(run, console, asked.watch) as on_step:
        texts = _texts(run, asked, template, options, on_step)
    _give(texts, asked, console)
    return 0


def _template(asked: SampleArguments) -> str | None:
    """The text with gaps, if one is given."""
    given = [asked.prompt or None, asked.infill, asked.infill_file]
    if sum(g is not None for g in given) > 1:
        raise UserError("prompt, infill and infill_file exclude each other: give one")
    if asked.infill_file is None:
        return asked.infill
    try:
        # Line ends stay as they are in the file.
        template = asked.infill_file.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"infill_file {asked.infill_file}: {error}") from None
    if not template.strip():
        raise UserError(f"infill_file {asked.infill_file} is empty")
    return template


def _check(asked: SampleArguments, template: str | None, config: Config) -> None:
    """Tell what is wrong with a request before the run's weights are read."""
    from unmask.recipe.parse import parse_recipe
    from unmask.sample import check_length

    block_size = config.corpus.block_size
    if asked.length is not None:
        check_length(asked.length, block_size)
    if template is not None and asked.length is not None:
        raise UserError("length: the gaps of a text say themselves how many tokens they take")
    if not parse_recipe(config.recipe).causal:
        return
    if template is not None:
        raise UserError("infilling needs a bidirectional model: this run is autoregressive")
    given = {
        "sampler": asked.sampler != "ancestral",
        "steps": asked.steps is not None,
        "block_length": asked.block_length is not None,
    }
    for name in (name for name, is_given in given.items() if is_given):
        raise UserError(
            f"{name}: this run is autoregressive and sampled left to right, a token a step: only "
            "temperature, top-k and top-p apply"
        )


def _texts(
    run: "Run",
    asked: SampleArguments,
    template: str | None,
    options: "SamplerOptions",
    on_step: "Callable[[Tensor], None]",
) -> list[dict[str, Any]]:
    """What is printed, whole texts, prompts and all; with what each was drawn from."""
    from unmask.sample import complete, continued, encode_prompts, gaps, infill, sample

    block_size = run.config.corpus.block_size
    seed, prompts = asked.seed, [prompt for prompt in asked.prompt for _ in range(asked.num)]
    if template is not None:
        new = gaps(template, run).count(run.tokenizer.mask_id)
        texts = infill(run, template, num=asked.num, options=options, seed=seed, on_step=on_step)
    elif prompts:
        longest = max(map(len, encode_prompts(run, prompts)))
        new = asked.length or max(min(_LENGTH, block_size - longest), 1)
        after = complete(run, prompts, new_tokens=new, options=options, seed=seed, on_step=on_step)
        texts = [continued(run, prompt, text) for prompt, text in zip(prompts, after, strict=True)]
    else:
        new = asked.length or min(_LENGTH, block_size)
        texts = sample(run, num=asked.num, length=new, options=options, seed=seed, on_step=on_step)
    step = run.checkpoint.progress.step
    return [
        {
            "index": index,
            "prompt": prompts[index] if prompts else None,
            "text": text,
            "tokens": new,
            "seed": seed,
            "checkpoint": step,
        }
        for index, text in enumerate(texts)
    ]


def _give(found: list[dict[str, Any]], asked: SampleArguments, console: "PlainConsole") -> None:
    """Print the texts or write them into a file; a single one exactly as it is."""
    from rich.rule import Rule

    parts = [str(text["text"]) for text in found]
    if asked.as_json:
        parts = [json.dumps(text, ensure_ascii=False) + "\n" for text in found]
    if asked.out is not None:
        ended = [part if part.endswith("\n") else part + "\n" for part in parts]
        whole = parts[0] if len(parts) == 1 else "".join(ended)
        write_whole(asked.out, whole.encode("utf-8", "surrogateescape"))
        return
    for number, part in enumerate(parts, 1):
        if not asked.as_json and (len(parts) > 1 or console.is_terminal):
            console.print(Rule(f"sample {number}", style="dim"))
        print_result(part)


@contextmanager
def _progress(
    run: "Run", console: "PlainConsole", watch: bool
) -> "Iterator[Callable[[Tensor], None]]":
    """A bar of the tokens filled, or in a terminal the texts themselves as they come."""
    from rich.live import Live

    if watch and console.is_terminal:
        with Live(console=console, transient=True, refresh_per_second=20) as live:
            yield lambda x: live.update(_view(x, run, console.height))
        return
    with progress_bar("sampling") as show:
        yield lambda x: show(int((x != run.tokenizer.mask_id).sum()), x.numel())


def _view(x: "Tensor", run: "Run", height: int) -> "Group":
    """As many of the texts as a screen has room for, their masks dim."""
    from rich.console import Group
    from rich.rule import Rule
    from rich.text import Text

    shown = max(1, min(len(x), height // 8))
    parts: list[RenderableType] = []
    for row in x[:shown].tolist():
        text = Text(visible(run.tokenizer.decode(row)), overflow="fold")
        text.highlight_regex("░+", "dim cyan")
        parts += [Rule(style="dim"), text]
    return Group(*parts)
