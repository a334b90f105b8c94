"""The processes that train one run together, as ``torchrun`` starts them; most often one alone.

Each process has a share of every global batch. Gradients are summed, so that all take the same
step. The first process alone writes.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from inspect import signature
from threading import current_thread, main_thread
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.fsdp import FSDPModule
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from unmask.base.errors import UserError


class EndedElsewhere(UserError):
    """The first process, which says why, has ended."""

    def __init__(self) -> None:
        super().__init__("process 0 has ended: see what it says")


class OneIsLost(UserError):
    """Another process has ended without a word, so that none can go on."""

    def __init__(self) -> None:
        super().__init__(
            "another process of this run has ended or cannot be reached; to go on from the last "
            "checkpoint, resume the run, or have torchrun start them again"
        )


@dataclass(frozen=True)
class Processes:
    """This process among those that train a run.

    Attributes:
        rank: its number, from 0.
        size: how many there are.
        local_rank: its number on its machine.
        sharded: whether each holds a part of the weights (FSDP2), and not all of them (DDP). Then a
            pass through the network is one of all processes together.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    sharded: bool = False

    @property
    def main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def share(self, n: int) -> Tensor:
        """Which of n things are this process's: int64, one process's after another's."""
        return self.shares(n)[self.rank]

    def shares(self, n: int) -> tuple[Tensor, ...]:
        """Each process's of n things."""
        return torch.arange(n).tensor_split(self.size)

    def batches(self, n: int, batch_size: int) -> list[Tensor]:
        """Which of n things are this process's, some at a time.

        Where a pass through the network is one of all processes, all have as many batches: the last
        may be empty.
        """
        mine = self.share(n)
        batches = list(mine.split(batch_size)) if len(mine) else []
        most = -(-len(self.shares(n)[0]) // batch_size) if self.sharded else 0
        return batches + [mine[:0]] * (most - len(batches))

    def device(self, chosen: torch.device) -> torch.device:
        """The device of that kind that is this process's.

        Raises:
            UserError: processes cannot share such a device, or this machine has too few.
        """
        if self.size > 1 and chosen.type == "mps":
            raise UserError("several processes train on cpu or cuda, not on mps")
        if self.size == 1 or chosen.type != "cuda":
            return chosen
        there = torch.cuda.device_count()
        if self.local_rank >= there:
            raise UserError(
                f"process {self.local_rank} of this machine has no CUDA device: there are {there}; "
                "start at most that many"
            )
        device = torch.device("cuda", self.local_rank)
        torch.cuda.set_device(device)
        return device

    def wrap(self, module: nn.Module) -> nn.Module:
        """A module whose backward pass takes the mean of the gradients over all processes."""
        if self.size == 1 or self.sharded:
            return module
        device = next(module.parameters()).device
        known = signature(DistributedDataParallel).parameters  # torch 2.13 has a new name for it
        name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        options: dict[str, Any] = {name: False}  # buffers are constants
        return DistributedDataParallel(
            module,
            device_ids=[device] if device.type == "cuda" else None,
            gradient_as_bucket_view=True,
            **options,
        )

    def sum(self, *tensors: Tensor) -> None:
        """Add up tensors over all processes, in place; on the CPU or the process's device."""
        if self.size > 1:
            for tensor in tensors:
                dist.all_reduce(tensor)

    def gather(self, x: Tensor) -> Tensor:
        """The rows (N, ...) of all processes, one process's after another's."""
        if self.size == 1:
            return x
        counts = [torch.zeros((), dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(counts, torch.tensor(len(x)))
        rows = [int(count) for count in counts]
        padded = x.new_zeros(max(rows), *x.shape[1:])
        padded[: len(x)] = x
        parts = [torch.empty_like(padded) for _ in rows]
        dist.all_gather(parts, padded)
        return torch.cat([part[:n] for part, n in zip(parts, rows, strict=True)])

    def highest(self, number: int) -> int:
        """The highest number that any process has."""
        if self.size == 1:
            return number
        highest = torch.tensor(number)
        dist.all_reduce(highest, dist.ReduceOp.MAX)
        return int(highest)

    @contextmanager
    def first(self, otherwise: str) -> Iterator[bool]:
        """The block, True in the first process, that the others wait for the end of.

        Args:
            otherwise: what the others say if the first one fails.

        Raises:
            OSError: in the others, if the first one fails.
        """
        if not self.sharded:
            yield self.main
            return
        done = torch.zeros(())
        try:
            yield self.main
            done += 1
        finally:
            dist.broadcast(done, src=0)
        if not done:
            raise OSError(otherwise)

    @contextmanager
    def preparation(self) -> Iterator[None]:
        """The block in which the first process prepares what the others then find.

        Raises:
            EndedElsewhere: in the others, which wait for it, when it does not come to the end.
        """
        if self.size == 1:
            yield
        elif self.main:
            ready = torch.zeros(())
            try:
                yield
                ready += 1
            finally:
                dist.broadcast(ready, src=0)
        else:
            ready = torch.zeros(())
            dist.broadcast(ready, src=0)
            if not ready:
                raise EndedElsewhere
            yield


ALONE = Processes()
PATIENCE = timedelta(hours=24)
"""How long the others wait while the first packs a corpus; torchrun ends them if it dies."""


@contextmanager
def started(parallel: str) -> Iterator[Processes]:
    """Join the other processes of the run until the block ends.

    Args:
        parallel: ``none``; ``ddp`` or ``fsdp``: those that torchrun has started; ``auto``: ddp if
            there are any.

    Raises:
        UserError: torchrun has started several and ``parallel`` says none, or the other way round;
            or only part of what it tells a process is there.
        OneIsLost: one of them has gone while the others waited for it.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if parallel in ("ddp", "fsdp") and "RANK" not in os.environ:
        raise UserError(
            f"train.parallel {parallel} needs processes that torchrun starts; valid: auto, none"
        )
    if parallel == "none" and size > 1:
        raise UserError(
            f"train.parallel none, but {size} processes were started; valid: auto, ddp, fsdp"
        )
    if size == 1:
        yield ALONE
        return
    told = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    if missing := [name for name in told if name not in os.environ]:
        raise UserError(
            f"WORLD_SIZE is {size}, but {', '.join(missing)} are not set: torchrun sets them all"
        )
    # Numbers of the run travel between CPUs, gradients between devices.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    store, rank, _ = next(rendezvous("env://", timeout=PATIENCE))
    # torchrun's store outlives its restarts, and has the addresses of those that are no more.
    store = PrefixStore(f"start-{_restarts()}", store)
    dist.init_process_group(backend, timeout=PATIENCE, store=store, rank=rank, world_size=size)
    try:
        local_rank = int(os.environ["LOCAL_RANK"])
        yield Processes(rank, size, local_rank, sharded=parallel == "fsdp")
    except RuntimeError as error:
        if not _tells_of_a_loss(error):
            raise
        if current_thread() is main_thread():  # torchrun ends us now: first what is to be said
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise OneIsLost from error
    finally:
        dist.destroy_process_group()


def _tells_of_a_loss(error: RuntimeError) -> bool:
    """Whether another process could not be reached; gloo says so in words alone."""
    return isinstance(error, dist.DistError) or "/gloo/transport/" in str(error)


def restarted() -> bool:
    """Whether torchrun has started this process in the place of one that failed."""
    return _restarts() > 0


def _restarts() -> int:
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def gradient_sync(module: nn.Module, network: nn.Module, now: bool) -> AbstractContextManager[None]:
    """The context of a forward pass; its backward pass shares gradients with the others, if now.

    Args:
        module: what `Processes.wrap` gave for a module with the network in it.
    """
    if isinstance(network, FSDPModule):
        network.set_requires_gradient_sync(now)
    if now or not isinstance(module, DistributedDataParallel):
        return nullcontext()
    return module.no_sync()
