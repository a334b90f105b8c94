"""The door: which commands there are, and how whatever ends one early becomes a line and a status.

Only what takes no time is imported here: signals, the help and the version need nothing else.
"""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import current_thread, main_thread
from types import FrameType

from unmask import __version__
from unmask.base.errors import UserError
from unmask.cli.commands import Group
from unmask.cli.output import open_streams, print_error

BAD_INPUT = 2
BROKEN_PIPE = 128 + signal.SIGPIPE

COMMANDS = Group(
    "unmask",
    "unmask.cli",
    "command",
    "Train masked diffusion language models fast, see why they are slow, prove the speed-up.",
    {
        "train": "train a model in a run folder, or resume one",
        "compare": "train recipes side by side and measure the speed-up",
        "analyze": "see why a corpus or a run is slow to learn",
        "report": "make a comparison's report again from its records",
        "evaluate": "measure the likelihood of a text under a model, its own texts, or tasks",
        "sample": "print texts drawn from a run",
        "convert": "write a run as a folder that transformers loads",
        "play": "watch texts unmask on a page in the browser",
    },
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of ``unmask``.

    Returns:
        0 done, 1 a comparison with runs, or an evaluation with corpora, that are not, 2 bad input
        or a machine that has no room or no permission for it, 3 training failed, 128 + n signal n
        (141 where the reader of the output has gone).
    """
    open_streams()
    # To look for plugins, pydantic reads the metadata of all that is installed, at each start.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    with _interruptions() as received:
        try:
            status = _run(list(sys.argv[1:] if arguments is None else arguments))
            sys.stdout.flush()
        except BaseException as error:
            # Whatever an interrupted import or library made of the interrupt, it is one.
            if received:
                status = 128 + received[0]
                print_error("stopped")
            else:
                status = _status(error)
    return status


def _run(arguments: list[str]) -> int:
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise UserError(f"the argument {argument!r} is not UTF-8 text") from None
    if arguments in (["--version"], ["-V"]):
        print(f"unmask {__version__}")
        return 0
    return COMMANDS.run(arguments)


def _status(error: BaseException) -> int:  # noqa: PLR0911 - a line for each ending
    """Say what went wrong in a sentence; what is a fault of ours is raised again.

    Returns:
        The exit status.
    """
    # Imported by whoever can raise it; not imported here, since it brings torch.
    training = sys.modules.get("unmask.train.loop")
    match error:
        case SystemExit(code=code):  # the option parser's own way out
            return code if isinstance(code, int) else 0
        case UserError():
            return _tell(f"error: {error}", BAD_INPUT)
        case BrokenPipeError():
            # Python flushes standard output once more at its end: into nothing.
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return BROKEN_PIPE
        case KeyboardInterrupt():
            return _tell("stopped", 128 + signal.SIGINT)
        case OSError(strerror=str(reason)):
            place = "" if error.filename is None else f": {os.fsdecode(error.filename)}"
            return _tell(f"error: {reason}{place}", BAD_INPUT)
        case _ if training and isinstance(error, training.TrainingFailed):
            return _tell(f"training failed: {error}", training.TRAINING_FAILED)
        case _ if _out_of_memory(error):
            first = str(error).strip().partition("\n")[0]
            return _tell(f"error: there is not enough memory for this ({first})", BAD_INPUT)
    raise error


def _tell(message: str, status: int) -> int:
    print_error(message)
    return status


def _out_of_memory(error: BaseException) -> bool:
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))


@contextmanager
def _interruptions() -> Iterator[list[int]]:
    """Let SIGINT, SIGTERM and SIGUSR1 raise `KeyboardInterrupt`, and note which of them came.

    What saves itself on a signal (training, comparing) has handlers of its own meanwhile.
    """
    received: list[int] = []
    if current_thread() is not main_thread():
        yield received
        return

    def interrupt(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    asked = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # by a person or a scheduler
    previous = {s: signal.signal(s, interrupt) for s in asked}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
