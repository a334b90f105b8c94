"""SIGINT, SIGTERM and SIGUSR1 ask a run to save and end; a second one ends it at once.

SIGUSR1 is what schedulers can send some time before they end a job.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@contextmanager
def stop_on_signals(*, patient: bool = False) -> Iterator[list[int]]:
    """Turn the first signal into a request to stop; outside the main thread, do nothing.

    Args:
        patient: whether a second one is ignored: torchrun repeats what a terminal sends to all.

    Yields:
        An empty list, which takes the number of the signal: the loop looks at it after every step.
    """
    received: list[int] = []
    if current_thread() is not main_thread():
        yield received
        return

    def handle(number: int, _frame: FrameType | None) -> None:
        if received and not patient:  # what would have happened without us
            signal.signal(number, previous[signal.Signals(number)])
            signal.raise_signal(number)
        received.append(number)

    previous = {s: signal.signal(s, handle) for s in SIGNALS}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
