"""``unmask play``."""

import shlex
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from pydantic import Field

from unmask.base.section import Section
from unmask.cli.base import run_folder
from unmask.cli.options import parse, says_flags
from unmask.cli.output import print_error, print_result

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

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")] = Field(
        description="folder of the run"
    )
    beside: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="[RUN2]")] = Field(
        None, description="folder of another, which is shown beside it"
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
    folders = [run_folder(folder) for folder in (asked.run, asked.beside) if folder is not None]
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
        loopback = ip_address(listening.getsockname()[0]).is_loopback
        if not loopback:
            print_error(f"host {asked.host}: whoever can reach this machine can use the page")
        print_result(f"open {address_of(listening)} in a browser; Ctrl-C ends it")
        server(page, loopback=loopback).run(sockets=[listening])
    return 0


def _sample_command(asked: PlayArguments) -> "Callable[[Run, Request], str]":
    """What prints the same text: a line for a shell."""

    def command(run: "Run", request: "Request") -> str:
        options = request.options
        words = [f"unmask sample {shlex.quote(str(run.folder))} --num 1 --seed {request.seed}"]
        # With = a text may begin with a hyphen.
        if request.has_gaps:
            words += [f"--infill={shlex.quote(request.text)}"]
        else:
            words += [f"--length {request.length}"]
            words += [f"--prompt={shlex.quote(request.text)}"] if request.text else []
        if not run.model.causal:
            words += [f"--sampler {options.sampler} --steps {options.steps}"]
            if options.block_length is not None:
                words += [f"--block-length {options.block_length}"]
        words += [f"--temperature {options.temperature!r} --top-p {options.top_p!r}"]
        words += [f"--checkpoint {asked.checkpoint}"] if asked.checkpoint != "last" else []
        words += [f"--device {asked.device}"] if asked.device != "auto" else []
        return " ".join(words)

    return command
