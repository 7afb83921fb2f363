"""Try a network before promising anything: one pass forward and one backward."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.inferers import Inferer, SliceInferer
from torch import Tensor, nn

from grata_monai.adapt.alignment import is_finite
from grata_monai.adapt.losses import entropy
from grata_monai.adapt.network import choose_activation, copy_network, first_tensor
from grata_monai.adapt.parameters import MovingParameters, resolve_parameters
from grata_monai.adapt.patches import plan_patches
from grata_monai.core.errors import NetworkError
from grata_monai.core.memory import is_out_of_memory

__all__ = ["choose_input", "rehearse"]

_DEFAULT_EXTENT = 64
UNBOUNDED = ("Add", "Convolution", "Mm", "Sub", "Upsample")
RESHAPING = (
    "Alias",
    "Clone",
    "Permute",
    "Select",
    "Slice",
    "Squeeze",
    "ToCopy",
    "Unsqueeze",
    "View",
)
"""Autograd's names of operations begin so: those without bounds, those that keep values."""


def choose_input(
    inferer: Inferer | None, metadata: Mapping[str, Any], dims: int, channels: int
) -> Tensor:
    """Make what the network will see: one window of noise.

    Args:
        inferer: The bundle's; None if it could not be built.
        metadata: Content of ``metadata.json``; may be empty.
        dims: Spatial axes of the network.
        channels: Of its input, where the metadata do not say.

    Returns:
        (1, c, *s), in [0, 1].
    """
    inputs = metadata.get("network_data_format", {}).get("inputs", {})
    image: Any = inputs.get("image") or next(iter(inputs.values()), {})
    said = image.get("spatial_shape")
    shape: Sequence[Any] = said if isinstance(said, list) and len(said) == dims else [None] * dims
    window = _window(inferer, dims)
    size = [
        extent if isinstance(extent, int) and extent > 0 else window[axis]
        for axis, extent in enumerate(shape)
    ]
    count = image.get("num_channels")
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, count if isinstance(count, int) else channels, *size, generator=generator)


def _window(inferer: Inferer | None, dims: int) -> tuple[int, ...]:
    default = (_DEFAULT_EXTENT,) * (dims + isinstance(inferer, SliceInferer))
    plan = plan_patches(inferer, default) if inferer is not None else None
    if plan is None or len(plan.roi_size) < dims:
        return (_DEFAULT_EXTENT,) * dims
    return tuple(n for axis, n in enumerate(plan.roi_size) if axis != plan.slice_axis)


def rehearse(
    network: nn.Module,
    images: Tensor,
    groups: Sequence[str],
    *,
    activation: str,
    has_steps: bool = True,
) -> tuple[MovingParameters, int]:
    """Predict a window and take a gradient, on a copy.

    Args:
        network: Images to logits; left as it is.
        images: (1, c, *s), of `choose_input`.
        groups: What the recipe moves.
        activation: ``sigmoid``, ``softmax`` or ``auto``.
        has_steps: Whether the recipe takes steps at all, and so a gradient.

    Returns:
        What will move, and the number of output channels.

    Raises:
        NothingToAdaptError: If the network has no such parameter.
        NetworkError: If it does not predict a map of logits from images alone, or gives no
            gradient; the message says what would work.
    """
    copied = copy_network(network)
    moving = resolve_parameters(copied, groups, image=images)
    device = next((p.device for p in copied.parameters()), images.device)
    images = images.to(device)
    with torch.enable_grad():
        logits = _predict(copied, images, moving)
        _check_shape(logits, images)
        if has_steps:
            _check_gradient(logits, moving, activation)
        _check_range(logits)
    return moving, logits.shape[1]


def _predict(network: nn.Module, images: Tensor, moving: MovingParameters) -> Tensor:
    adapter = moving.input_adapter
    seen = images if adapter is None else adapter(images, None)
    try:
        return first_tensor(network(seen))
    except NetworkError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise NetworkError(
                f"a window of {tuple(images.shape[2:])} must fit into this machine's memory with "
                "gradients, it does not. Wrap the bundle on a machine with more."
            ) from error
        raise NetworkError(
            "network must segment from images alone, given a window of shape "
            f"{tuple(images.shape)} it raised {type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}. Correct spatial_shape and num_channels in "
            "metadata.json; put a network that asks for prompts into a module that holds them, "
            "such as grata_monai.networks.ClassPrompts, as network_def."
        ) from error


def _check_shape(logits: Tensor, images: Tensor) -> None:
    if logits.shape[2:] != images.shape[2:]:
        raise NetworkError(
            "network must return a map of logits on the grid of its input, got "
            f"{tuple(logits.shape)} of {tuple(images.shape)}. Classifiers, detectors and networks "
            "of landmarks have nothing that GraTa could compare between views."
        )


def _check_range(logits: Tensor) -> None:
    values = logits.detach().float()
    if not bool(torch.isfinite(values).all()):
        return  # of random weights that says nothing
    is_softmax = logits.shape[1] > 1 and torch.allclose(values.sum(1), torch.ones(()), atol=1e-3)
    is_within = bool((values >= 0).all()) and bool((values <= 1).all())
    if is_within and (is_softmax or (bool((values > 0).all()) and not _ends_linear(logits))):
        raise NetworkError(
            "network must return logits, it returns values in [0, 1], as after a "
            f"{'softmax' if is_softmax else 'sigmoid'}. Leave the last activation out of "
            "network_def, and put it into the postprocessing."
        )


def _ends_linear(logits: Tensor) -> bool:
    """Whether a layer without bounds made them; those of random weights may all be small."""
    node = logits.grad_fn
    while node is not None and node.name().startswith(RESHAPING) and node.next_functions:
        node = node.next_functions[0][0]
    return node is not None and node.name().startswith(UNBOUNDED)


def _check_gradient(logits: Tensor, moving: MovingParameters, activation: str) -> None:
    remedy = (
        "A network that cuts its graph cannot adapt: take TensorRT, torch.no_grad and detach out "
        "of network_def; give a network that waits for prompts its classes with "
        "grata_monai.networks.ClassPrompts; or use the recipe 'source' or 'views'."
    )
    if not logits.requires_grad:
        raise NetworkError(
            f"network must give gradients, its output has none of what may move. {remedy}"
        )
    loss = entropy(logits, choose_activation(activation, logits.shape[1]))
    found = torch.autograd.grad(loss, moving.tensors, allow_unused=True)
    present = [gradient for gradient in found if gradient is not None]
    if not present or not is_finite(present):
        raise NetworkError(
            f"network must give finite gradients, {len(present)} of {len(found)} tensors that may "
            f"move have one. {remedy}"
        )
