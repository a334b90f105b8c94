"""A device that is not there: every machine can see what would reach an accelerator.

A tensor on it says that its device is ``mps``, is a tensor without data to torch, and holds its
numbers on the CPU. While `PretendedDevice` is entered, code that moves things to `DEVICE` computes
as always, but raises `WrongDevice` where that accelerator would refuse.
"""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

DEVICE, META = torch.device("mps"), torch.device("meta")
TOO_WIDE = (torch.float64, torch.complex128)
MOVES = ("_to_copy", "copy_", "index", "index_put", "index_put_", "_index_put_impl_")
"""What takes tensors from both sides."""
MISSING = ("_assert_async",)
"""What torch has for CPUs and CUDA alone."""


class WrongDevice(AssertionError):
    """Something that an accelerator cannot do."""


class OnDevice(torch.Tensor):
    """A tensor on `DEVICE`."""

    numbers: torch.Tensor

    @staticmethod
    def __new__(cls, numbers: torch.Tensor) -> "OnDevice":
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            numbers.shape,
            strides=numbers.stride(),
            storage_offset=numbers.storage_offset(),
            dtype=numbers.dtype,
            device=META,
        )
        made.numbers = numbers
        return made

    @property
    def device(self) -> torch.device:
        return DEVICE

    @property
    def is_meta(self) -> bool:
        return False

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _run(function, args, kwargs or {})

    def tolist(self) -> Any:
        return self.numbers.tolist()

    def __repr__(self, **_: Any) -> str:
        return f"OnDevice({self.numbers})"


class PretendedDevice(TorchDispatchMode):
    """While it is entered, `DEVICE` is there."""

    def __enter__(self) -> "PretendedDevice":
        self._functions = _Functions()
        self._functions.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._functions.__exit__(*error)

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _run(function, args, kwargs or {})


class _Functions(TorchFunctionMode):
    """Translates ``mps``, which torch would look for, into ``meta``, which it need not have."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if function is torch.tensor and _is_device(kwargs.get("device")):
            del kwargs["device"]  # made without asking the dispatcher, like `new_tensor`'s
            return function(*args, **kwargs).to(META)
        if function is torch.Tensor.new_tensor and isinstance(args[0], OnDevice):
            return torch.tensor(args[1], **{"dtype": args[0].dtype, **kwargs}).to(META)
        if _is_device(kwargs.get("device")):
            kwargs["device"] = META
        args = tuple(META if isinstance(x, torch.device) and _is_device(x) else x for x in args)
        return function(*args, **kwargs)


def _is_device(device: Any) -> bool:
    return device is not None and torch.device(device).type in (DEVICE.type, "meta")


def _run(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = function.overloadpacket.__name__
    tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
    there = any(isinstance(x, OnDevice) for x in tensors)
    here = any(not isinstance(x, OnDevice) and x.dim() > 0 for x in tensors)
    if there and name in MISSING:
        raise WrongDevice(f"{name}: the device does not have it")
    if any(x.is_meta and not isinstance(x, OnDevice) for x in tensors):
        raise WrongDevice(f"{name}: a tensor that was made on the device behind this test's back")
    if there and here and name not in MOVES:
        raise WrongDevice(f"{name}: tensors of the CPU and of the device together")
    if name in ("index", "index_put", "index_put_", "_index_put_impl_", "copy_"):
        there = isinstance(args[0], OnDevice)  # the others may be anywhere
    if kwargs.get("device") is not None:
        there = _is_device(kwargs["device"])
        kwargs = {**kwargs, "device": torch.device("cpu")}

    def numbers(x: Any) -> Any:
        return x.numbers if isinstance(x, OnDevice) else x

    def on_device(x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        if x.dtype in TOO_WIDE:
            raise WrongDevice(f"{name}: {x.dtype} on the device")
        return OnDevice(x)

    result = function(*tree_map(numbers, args), **tree_map(numbers, kwargs))
    if not there:
        return result
    return return_and_correct_aliasing(function, args, kwargs, tree_map(on_device, result))
