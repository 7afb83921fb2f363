"""What the bundle's configuration asks of a network: a device, and weights that fit it."""

import difflib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from grata_monai.core.errors import NetworkError, WeightsError
from grata_monai.core.precision import to_channels_last

__all__ = ["choose_device", "load_network"]


def choose_device(name: str = "auto") -> torch.device:
    """Choose where to run: the first CUDA device if there is one, else the CPU.

    Args:
        name: ``auto``, or a torch device such as ``cpu`` or ``cuda:1``.

    Returns:
        The device.

    Raises:
        NetworkError: If the name is no device, or this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise NetworkError(
            f"device must be 'auto' or a torch device, got {name!r}. Use 'auto' or 'cpu'."
        ) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise NetworkError(
            f"device must exist on this machine, got {name!r} with "
            f"{torch.cuda.device_count()} CUDA device(s). Use 'auto' or 'cpu'."
        )
    return device


def load_network(network: nn.Module, weights: str | None, device: torch.device | str) -> nn.Module:
    """Load weights into a network, all of them, and put it on a device.

    Args:
        network: The network that the configuration built; changed in place.
        weights: Path of a raw state dict; None keeps what the network has.
        device: Where the network shall run.

    Returns:
        The same network, in evaluation mode, channels-last in memory.

    Raises:
        WeightsError: If the file is missing or no state dict, or its keys or shapes do not fit.
        NetworkError: If this machine has no such device.
    """
    if weights is not None:
        _load_weights(network, Path(weights))
    return to_channels_last(network.to(choose_device(str(device)))).eval()


def _load_weights(network: nn.Module, path: Path) -> None:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(
            f"weights must be a state dict that loads with weights_only=True, got {path.name}: "
            f"{type(error).__name__}. Check the path; save network.state_dict() alone."
        ) from error
    _check_keys(network.state_dict(), state, path.name)
    network.load_state_dict(state)


def _check_keys(expected: dict[str, Any], state: Any, name: str) -> None:
    if not isinstance(state, dict):
        raise WeightsError(
            f"weights must hold a state dict, got {type(state).__name__} in {name}. "
            "Save with torch.save(network.state_dict(), …)."
        )
    given = {str(key) for key in state}
    missing, unexpected = sorted(expected.keys() - given), sorted(given - expected.keys())
    if missing or unexpected:
        key = (missing or unexpected)[0]
        near = difflib.get_close_matches(key, unexpected if missing else missing, n=1)
        hint = f" The nearest to {key!r} is {near[0]!r}." if near else ""
        raise WeightsError(
            f"weights in {name} must have exactly the network's keys: {len(missing)} missing, "
            f"{len(unexpected)} unexpected, first {key!r}.{hint} "
            "Use the checkpoint that belongs to network_def, or change network_def."
        )
    for key, tensor in expected.items():
        value = state[key]
        found = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        if found != tuple(tensor.shape):
            raise WeightsError(
                f"weights in {name} must have the network's shapes: {key!r} has "
                f"{found}, the network {tuple(tensor.shape)}. "
                "Use the checkpoint that belongs to network_def, or change network_def."
            )
