"""A network whose weights, gradients and optimiser state are divided between processes (FSDP2).

Every process holds a part of every matrix. A block's are gathered before it runs, and its gradients
added up and divided after.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Muon, Optimizer

from unmask.model.network import Network


def shard(model: Network, device: torch.device, dtype: torch.dtype) -> None:
    """Divide a network between all processes, in place.

    Args:
        device: this process's.
        dtype: in which the blocks' weights are gathered; gradients are added up in float32. The
            embedding, the head and the last norm stay float32, as the residual stream does.
    """
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    low = MixedPrecisionPolicy(dtype, torch.float32, cast_forward_inputs=False)
    blocks: list[Any] = model.layers
    for block in blocks:
        fully_shard(block, mesh=mesh, mp_policy=low)
        if hasattr(block, "lend"):  # of a network of ours
            register_fsdp_forward_method(block, "lend")
    # What stands outside the blocks is used at both ends of a pass: it stays gathered in between.
    exact = MixedPrecisionPolicy(cast_forward_inputs=False)
    fully_shard(model, mesh=mesh, mp_policy=exact, reshard_after_forward=False)
    for before, after in pairwise(blocks):  # weights travel while the block before computes
        before.set_modules_to_forward_prefetch([after])
        after.set_modules_to_backward_prefetch([before])


def let_go(model: nn.Module) -> None:
    """Give back what a pass without a backward pass has left gathered, if the network is divided.

    Otherwise the next pass would find the weights as they were.
    """
    if isinstance(model, FSDPModule):
        model.reshard()


def whole(x: Tensor) -> Tensor:
    """All of a tensor, gathered from all processes if it is divided between them."""
    return x.full_tensor() if isinstance(x, DTensor) else x


def local(x: Tensor) -> Tensor:
    """This process's part of a tensor, or all of one that is not divided; no copy."""
    return x.to_local() if isinstance(x, DTensor) else x


def is_divided(tensors: Iterable[Tensor]) -> bool:
    """Whether any of them is divided between processes."""
    return any(isinstance(x, DTensor) for x in tensors)


class SharedMuon(Optimizer):
    """Muon on divided matrices: each process orthogonalises its share of them, whole.

    A gradient is gathered, the process whose matrix it is turns it into an update by torch's Muon,
    and every process gets its part of that. The momentum stays where the update is made.

    Args:
        matrices: divided parameters.
        options: of torch's Muon.
    """

    def __init__(self, matrices: list[nn.Parameter], **options: Any) -> None:
        super().__init__(matrices, {key: options.pop(key) for key in ("lr", "weight_decay")})
        self._owners = _deal([p.numel() for p in matrices], dist.get_world_size())
        # Torch's Muon steps a matrix of zeros: what it then holds is the update.
        self._updates = {
            p: nn.Parameter(torch.zeros(p.shape, device=p.device))
            for p, owner in zip(matrices, self._owners, strict=True)
            if owner == dist.get_rank()
        }
        mine = list(self._updates.values())
        self._muon = Muon(mine, weight_decay=0.0, **options) if mine else None
        for p, update in self._updates.items():
            assert self._muon is not None
            self.state[p] = self._muon.state[update]  # one and the same

    def owns(self, matrix: Tensor) -> bool:
        """Whether this process makes that matrix's updates."""
        return matrix in self._updates

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Step every matrix; all processes together."""
        (group,) = self.param_groups
        rate = group["lr"]
        for p in group["params"]:
            gradient = whole(p.grad)
            if self.owns(p):
                self._updates[p].grad = gradient
        if self._muon is not None:
            torch._foreach_zero_(list(self._updates.values()))
            self._muon.param_groups[0]["lr"] = rate
            self._muon.step()
        for p, owner in zip(group["params"], self._owners, strict=True):
            made = self._updates[p].data if self.owns(p) else torch.empty(p.shape, device=p.device)
            part = distribute_tensor(made, p.device_mesh, p.placements, src_data_rank=owner)
            p.mul_(1 - rate * group["weight_decay"]).add_(part)
            if self.owns(p):
                self._updates[p].grad = None


def _deal(sizes: list[int], processes: int) -> list[int]:
    """Which process each of some pieces of work goes to: the largest first, to the least busy."""
    busy, owners = [0] * processes, [0] * len(sizes)
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        owners[i] = busy.index(min(busy))
        busy[owners[i]] += sizes[i]
    return owners


def fill(target: Tensor, value: Tensor) -> None:
    """Give a tensor, whole or divided, the values of a whole one."""
    if isinstance(target, DTensor):
        value = value.to(target.device)
        value = distribute_tensor(value, target.device_mesh, target.placements, src_data_rank=None)
    with torch.no_grad():
        target.copy_(value)
