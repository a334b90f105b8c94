"""Where a run computes and in which precision."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from unmask.base.errors import UserError


def choose_device(name: str) -> torch.device:
    """The device called ``cuda``, ``mps`` or ``cpu``; ``auto``: the first of these that is there.

    Raises:
        UserError: it is not there.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(device for device, there in available.items() if there)
    if not available.get(name):
        there = ", ".join(device for device, ok in available.items() if ok)
        raise UserError(f"device {name!r} is not available here; valid: auto, {there}")
    return torch.device(name)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """The context that forward passes run in: bfloat16 autocast, or nothing for float32.

    ``auto`` is bfloat16 where the hardware multiplies matrices in it: on such a GPU, and on a CPU
    with AMX or AVX512-BF16 (docs/experiments/2026-11-25-performance.md has what it gains).
    """
    dtype = products_dtype(device, precision)
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype=dtype)


def products_dtype(device: torch.device, precision: str) -> torch.dtype:
    """The type of numbers whose products `autocast` takes."""
    if precision == "auto":
        precision = "bf16" if _multiplies_bfloat16(device) else "fp32"
    return torch.float32 if precision == "fp32" else torch.bfloat16


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        # Older versions of torch cannot be asked.
        capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        return any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16"))
    return False


def products_of_optimizers(device: torch.device) -> AbstractContextManager[object]:
    """The context that optimisers step in.

    Muon and its kin multiply matrices in bfloat16. A CPU that cannot emulates that, some 30 times
    slower than float32; here such products are taken in float32 and rounded, which is what hardware
    with bfloat16 does.
    """
    if device.type == "cpu" and not _multiplies_bfloat16(device):
        return _BfloatProductsInFloat32()  # type: ignore[no-untyped-call]
    return nullcontext()


class _BfloatProductsInFloat32(TorchDispatchMode):
    """Matrix products of bfloat16 are taken in float32; their results are rounded to bfloat16."""

    PRODUCTS = frozenset(
        (
            torch.ops.aten.mm,
            torch.ops.aten.addmm,
            torch.ops.aten.bmm,
            torch.ops.aten.baddbmm,
        )
    )

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        product = func.overloadpacket
        if product not in self.PRODUCTS or any(x.dtype != torch.bfloat16 for x in args):
            return func(*args, **kwargs)
        out = kwargs.pop("out", None)
        found = product(*(x.float() for x in args), **kwargs).bfloat16()
        return found if out is None else out.copy_(found)


PEAKS = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
    "MI300X": 1307e12,
    "MI250X": 383e12,
}
"""FLOPs a second of matrix products in bfloat16, not sparse, by the makers' data sheets."""


def peak_flops(device: torch.device, precision: str) -> float | None:
    """The most FLOPs a second of a device in that precision; None where it is not known."""
    if device.type != "cuda" or products_dtype(device, precision) != torch.bfloat16:
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAKS.items() if part in name), None)


class Stopwatch:
    """Adds up the seconds between `start` and `stop`, waiting for the device at both."""

    def __init__(self, device: torch.device, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self._device = device
        self._started = 0.0

    def start(self) -> None:
        """Begin an interval."""
        self._started = self._now()

    def stop(self) -> float:
        """End the interval; the total so far."""
        self.seconds += self._now() - self._started
        return self.seconds

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        elif self._device.type == "mps":
            torch.mps.synchronize()
        return perf_counter()
