"""``unmask sample``."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import Progress
from rich.rule import Rule
from rich.text import Text
from torch import Tensor

from unmask.base.errors import UserError
from unmask.diffusion.sampler import SAMPLERS
from unmask.run import Run, open_run
from unmask.sample import SamplerOptions, complete, infill, sample
from unmask.train.device import choose_device

_LENGTH = 128
_SAMPLER_HELP = f"{', '.join(SAMPLERS)}: in which order positions are revealed."


@dataclass
class SampleArguments:
    """Print texts drawn from a trained run: from nothing, after prompts, or in the gaps of a text.

    Examples:
    unmask sample runs/a --sampler confidence --steps 32 --temperature 0.8
    unmask sample runs/a --prompt "It was" "She had" --length 40 --watch
    unmask sample runs/a --infill "def add(a, b):[MASK*12]return c"
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    num: int = 4
    """How many texts (for each prompt)."""
    length: int | None = None
    """New tokens in each; by default 128, or what the run's block size leaves room for."""
    prompt: tuple[str, ...] = ()
    """Texts to continue."""
    infill: str | None = None
    """A text with gaps to fill: [MASK*12] for 12 tokens, [MASK] for one; \\[MASK] is plain text."""
    infill_file: Path | None = None
    """A file with such a text."""
    sampler: Annotated[str, tyro.conf.arg(help=_SAMPLER_HELP)] = "ancestral"
    steps: int = 64
    """Denoising steps; more are slower and better, up to one a token."""
    temperature: float = 1.0
    """Below 1 likelier tokens, 0 always the likeliest."""
    top_p: float = 1.0
    """Draw from the likeliest tokens that together hold this much of the probability."""
    top_k: int = 0
    """Draw from this many likeliest tokens; 0: all."""
    block_length: int | None = None
    """Fill this many tokens at a time, from left to right; by default all together."""
    seed: int = 0
    """Another seed, other texts."""
    checkpoint: str = "last"
    """last, best (lowest validation NELBO), or a step number."""
    watch: bool = False
    """Show in the terminal how the tokens are unmasked."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""


def sample_command(arguments: Sequence[str], console: Console) -> int:
    """Run ``unmask sample``."""
    parsed = tyro.cli(SampleArguments, prog="unmask sample", args=arguments)
    options = SamplerOptions(
        parsed.sampler,
        parsed.steps,
        parsed.temperature,
        parsed.top_k,
        parsed.top_p,
        parsed.block_length,
    )
    template = _template(parsed)
    device = choose_device(parsed.device)
    run = open_run(parsed.run, parsed.checkpoint)
    run.model.to(device)
    with _progress(run, console, parsed.watch) as on_step:
        texts = _texts(run, parsed, template, options, on_step)
    for number, text in enumerate(texts, 1):
        console.print(Rule(f"sample {number}", style="dim"))
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    return 0


def _template(parsed: SampleArguments) -> str | None:
    """The text with gaps, if one is given."""
    given = [parsed.prompt, parsed.infill, parsed.infill_file]
    if sum(bool(g) or g == "" for g in given) > 1:
        raise UserError("--prompt, --infill and --infill-file exclude each other: give one")
    if parsed.infill_file is None:
        return parsed.infill
    try:
        template = parsed.infill_file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--infill-file {parsed.infill_file}: {error}") from None
    if not template.strip():
        raise UserError(f"--infill-file {parsed.infill_file} is empty")
    return template


def _texts(
    run: Run,
    parsed: SampleArguments,
    template: str | None,
    options: SamplerOptions,
    on_step: Callable[[Tensor], None],
) -> list[str]:
    """What is printed: whole texts, prompts and all."""
    block_size = run.config.corpus.block_size
    seed = parsed.seed
    if template is not None:
        return infill(run, template, num=parsed.num, options=options, seed=seed, on_step=on_step)
    if parsed.prompt:
        if parsed.num < 1:
            raise UserError(f"--num must be at least 1, not {parsed.num}")
        prompts = [prompt for prompt in parsed.prompt for _ in range(parsed.num)]
        longest = max(len(ids) for ids in run.tokenizer.encode(prompts))
        new = parsed.length or max(min(_LENGTH, block_size - longest), 1)
        texts = complete(run, prompts, new_tokens=new, options=options, seed=seed, on_step=on_step)
        return [prompt + text for prompt, text in zip(prompts, texts, strict=True)]
    length = min(_LENGTH, block_size) if parsed.length is None else parsed.length
    return sample(run, num=parsed.num, length=length, seed=seed, on_step=on_step, **vars(options))


@contextmanager
def _progress(run: Run, console: Console, watch: bool) -> Iterator[Callable[[Tensor], None]]:
    """A bar of the tokens filled, or in a terminal the texts themselves as they come."""
    mask_id = run.tokenizer.mask_id
    if watch and console.is_terminal:
        with Live(console=console, transient=True, refresh_per_second=20) as live:
            yield lambda x: live.update(_view(x, run, console.height))
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("sampling", total=None)

        def on_step(x: Tensor) -> None:
            bar.update(task, total=x.numel(), completed=x.numel() - int((x == mask_id).sum()))

        yield on_step


def _view(x: Tensor, run: Run, height: int) -> Group:
    """As many of the texts as a screen has room for, their masks dim."""
    shown = max(1, min(len(x), height // 8))
    parts: list[RenderableType] = []
    for row in x[:shown].tolist():
        text = Text(run.tokenizer.decode(row), overflow="fold")
        text.highlight_regex("░+", "dim cyan")
        parts += [Rule(style="dim"), text]
    return Group(*parts)
