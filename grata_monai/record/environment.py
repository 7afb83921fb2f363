"""Where a case ran: device and versions."""

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import torch

__all__ = ["name_device", "versions"]


def name_device(device: torch.device) -> str:
    """Name a device as the record does: a GPU with its model."""
    if device.type != "cuda":
        return device.type
    return f"{device} ({torch.cuda.get_device_name(device)})"


@cache
def versions() -> dict[str, str]:
    """Versions of what computes."""
    found = {"python": platform.python_version()}
    for name in ("grata-monai", "monai", "torch", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed as a package"
    return found
