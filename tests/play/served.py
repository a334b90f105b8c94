"""A page of runs, served for a test."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

from unmask.cli.play import PlayArguments, _sample_command
from unmask.play.page import Player, build
from unmask.play.server import address_of, open_socket, server
from unmask.run import Run


@contextmanager
def served(runs: list[Run]) -> Iterator[str]:
    """The address of a page of these runs."""
    with open_socket("127.0.0.1", 0) as listening:
        command = _sample_command(PlayArguments(run=runs[0].folder))
        serving = server(build(Player(runs, command)))
        thread = Thread(target=serving.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield address_of(listening)
        finally:
            serving.should_exit = True
            thread.join()
