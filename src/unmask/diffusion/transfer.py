"""From the CPU, where small numbers are drawn, to the device that computes."""

import torch
from torch import Tensor


def send(x: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device; one from the CPU without waiting for the device."""
    if device.type == "cuda" and x.device.type == "cpu":  # from ordinary memory the copy waits
        x = x.pin_memory()
    return x.to(device, non_blocking=device.type != "cpu")  # what comes back must have arrived
