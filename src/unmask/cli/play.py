"""``unmask play``."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from pydantic import Field

from unmask.base.errors import UserError
from unmask.base.section import Section
from unmask.cli.base import run_folder
from unmask.cli.options import parse, says_flags
from unmask.cli.output import print_result

if TYPE_CHECKING:
    from unmask.play.request import Request
    from unmask.run import Run

_HERE = "127.0.0.1"


class PlayArguments(Section):
    """Watch texts unmask on a page in the browser: token by token, with the alternatives to each.

    Examples:
    unmask play runs/a
    unmask play runs/cmp/standard/seed-0 runs/cmp/bell/seed-0
    """

    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN [RUN2]")] = (
        Field(description="folder of a run, or of two that are shown side by side")
    )
    host: str = Field(
        _HERE, description="address to listen at; 0.0.0.0: let other machines use the page too"
    )
    port: int | None = Field(
        None, ge=0, le=65535, description="by default the first from 7860 that is free"
    )
    checkpoint: str = Field(
        "last", description="last, best (lowest validation NELBO), or a step number"
    )
    device: str = Field("auto", description="auto, cpu, cuda or mps")


@says_flags(PlayArguments)
def play_command(arguments: Sequence[str]) -> int:
    """Run ``unmask play``."""
    asked = parse(PlayArguments, "unmask play", arguments)
    if not 1 <= len(asked.runs) <= 2:
        raise UserError(f"play shows one run or two side by side, not {len(asked.runs)}")
    folders = [run_folder(folder) for folder in asked.runs]
    from unmask.play.server import address_of, check_gradio, open_socket, server

    check_gradio()
    with open_socket(asked.host, asked.port) as listening:
        from unmask.play.page import Player, build
        from unmask.run import open_run
        from unmask.train.device import choose_device

        device = choose_device(asked.device)
        runs = [open_run(folder, asked.checkpoint) for folder in folders]
        for run in runs:
            run.model.to(device)
        page = build(Player(runs, _sample_command(asked)))
        print_result(f"open {address_of(listening)} in a browser; Ctrl-C ends it")
        server(page).run(sockets=[listening])
    return 0


def _sample_command(asked: PlayArguments) -> "Callable[[Run, Request], str]":
    """What prints the same text: a line for a shell."""

    def command(run: "Run", request: "Request") -> str:
        options = request.options
        words = ["unmask", "sample", str(run.folder), "--num", "1", "--seed", str(request.seed)]
        if request.has_gaps:
            words += ["--infill", request.text]
        else:
            words += ["--length", str(request.length)]
            words += ["--prompt", request.text] if request.text else []
        if not run.model.causal:
            words += ["--sampler", options.sampler, "--steps", str(options.steps)]
            if options.block_length is not None:
                words += ["--block-length", str(options.block_length)]
        words += ["--temperature", f"{options.temperature!r}", "--top-p", f"{options.top_p!r}"]
        words += ["--checkpoint", asked.checkpoint] if asked.checkpoint != "last" else []
        words += ["--device", asked.device] if asked.device != "auto" else []
        return shlex.join(words)

    return command
