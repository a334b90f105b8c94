"""What numbers were made on."""

import os
import platform
from typing import Any

import torch


def environment() -> dict[str, Any]:
    """``machine`` (system, processor, cores, GPU) and ``versions`` (Python, torch)."""
    return {
        "machine": {
            "system": platform.platform(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "versions": {"python": platform.python_version(), "torch": str(torch.__version__)},
    }
