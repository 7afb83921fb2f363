"""Networks as adaptation needs them: a private copy, a fingerprint, plain logits."""

import copy
import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from grata_monai.core.errors import NetworkError

__all__ = ["choose_activation", "copy_network", "first_tensor", "hash_state", "hash_weights"]

_LOGITS = ("pred", "logits", "out")
_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def copy_network(network: nn.Module) -> nn.Module:
    """Copy a network, so that the original never changes, whatever happens to the copy.

    Args:
        network: The caller's network; wrappers for parallel or compiled execution are taken off.

    Returns:
        A copy in evaluation mode that shares no tensor with the original.

    Raises:
        NetworkError: If the network is a TorchScript module or cannot be copied.
    """
    network = _unwrap(network)
    if isinstance(network, torch.jit.ScriptModule):
        raise NetworkError(
            "network must be an eager torch module, got a TorchScript module, whose weights "
            "cannot move. Load models/model.pt into network_def instead of model.ts."
        )
    with torch.inference_mode(False):
        try:
            return copy.deepcopy(network).eval()
        except NotImplementedError as error:  # of torch.export's modules
            raise NetworkError(
                "network must be an eager torch module, got an exported program, whose mode and "
                "weights are fixed. Load models/model.pt into network_def instead."
            ) from error
        except (RuntimeError, TypeError, AttributeError) as error:
            raise NetworkError(
                f"network must be copyable with copy.deepcopy, {type(network).__name__} is not: "
                f"{error} Detach cached tensors before calling."
            ) from error


def _unwrap(network: nn.Module) -> nn.Module:
    while isinstance(network, _WRAPPERS) or hasattr(network, "_orig_mod"):
        network = network.module if isinstance(network, _WRAPPERS) else network._orig_mod  # type: ignore[assignment]
    return network


def hash_weights(network: nn.Module, adapters: Mapping[str, Tensor] | None = None) -> str:
    """Fingerprint every parameter and buffer of a network.

    Args:
        network: Any module; wrappers for parallel or compiled execution do not count.
        adapters: Parameters that act on the network but are not in its state dict.

    Returns:
        SHA-256 over names, dtypes, shapes and bytes of all of them, as hexadecimal text.
    """
    return hash_state({**_unwrap(network).state_dict(), **(adapters or {})})


def hash_state(state: Mapping[str, Any]) -> str:
    """Fingerprint a state dict, in the order in which it comes.

    Args:
        state: Names to tensors; other values do not count.

    Returns:
        SHA-256 over names, dtypes, shapes and bytes of all of them, as hexadecimal text.
    """
    digest = hashlib.sha256()
    for name, tensor in state.items():
        if isinstance(tensor, Tensor):
            plain = tensor.detach().cpu().contiguous()
            digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}".encode())
            digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def choose_activation(activation: str, channels: int) -> str:
    """Resolve ``auto``: sigmoid for one output channel, softmax for more."""
    if activation != "auto":
        return activation
    return "sigmoid" if channels == 1 else "softmax"


def _pick(output: Mapping[Any, Any]) -> Any:
    if len(output) == 1:
        return next(iter(output.values()))
    named = [output[name] for name in _LOGITS if name in output]
    if named:
        return named[0]
    raise NetworkError(
        f"network must return logits under one of {', '.join(_LOGITS)}, got {sorted(output)}. "
        "Wrap it in a module that returns the segmentation logits."
    )


def first_tensor(output: Any) -> Tensor:
    """Take the logits out of what a network returned.

    Args:
        output: A tensor, a sequence whose first is one, as of deep supervision, or a mapping of one
            tensor alone, or with one that is called ``pred``, ``logits`` or ``out``.

    Raises:
        NetworkError: If it returned something else.
    """
    while isinstance(output, (tuple, list, Mapping)) and output:
        output = _pick(output) if isinstance(output, Mapping) else output[0]
    if isinstance(output, Tensor):
        return output
    raise NetworkError(
        f"network must return logits as a tensor, got {type(output).__name__}. "
        "Wrap it in a module that returns the segmentation logits."
    )
