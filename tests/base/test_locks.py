"""Locks of folders: they end with the process that took them."""

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

from unmask.base.files import locked


def test_a_worker_does_not_keep_the_lock_of_its_parent(tmp_path: Path) -> None:
    """As those that read a stream, which end a moment after their run was killed."""
    fork: Any = multiprocessing.get_context("fork")
    ready, folder = fork.Event(), tmp_path / "run"
    folder.mkdir()

    def hold() -> None:
        with locked(folder, wait=False):
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)
            ready.set()
            time.sleep(60)

    holder = fork.Process(target=hold)
    holder.start()
    assert ready.wait(30)
    worker = int(Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text())
    with locked(folder, wait=False) as free:
        assert not free
    holder.kill()
    holder.join()
    try:
        with locked(folder, wait=False) as free:
            assert free
    finally:
        os.kill(worker, signal.SIGKILL)


def test_a_copy_of_the_process_leaves_the_lock_to_it(tmp_path: Path) -> None:
    with locked(tmp_path, wait=False) as free:
        assert free
        if (child := os.fork()) == 0:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        with locked(tmp_path, wait=False) as also:
            assert not also
    with locked(tmp_path, wait=False) as free:
        assert free
