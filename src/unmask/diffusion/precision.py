"""The finest arithmetic of a device."""

import torch


def finest(device: torch.device) -> torch.dtype:
    """float64 on the CPU, float32 on every accelerator: not all of those have more."""
    return torch.float64 if device.type == "cpu" else torch.float32
