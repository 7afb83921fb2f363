"""Which weights may move: the affine parameters of normalisation, or adapters where there are none.

Works on the private copy of the network that an episode owns (`grata_monai.adapt.episode`), so it
may add forward hooks; it never adds, renames or removes a key of the state dict.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from grata_monai.adapt.intensity import InputAdapter
from grata_monai.core.errors import NothingToAdaptError

__all__ = ["PARAMETER_GROUPS", "MovingParameters", "normalisation_layers", "resolve_parameters"]

PARAMETER_GROUPS: dict[str, str] = {
    "norm": "scale and shift of normalisation layers; identity adapters where none has any",
    "adapters": "identity scale and shift per channel after each layer that has none of its own",
    "input": "a smooth intensity curve and a low-order bias field on the network's input",
    "all": "every weight of the network",
}
"""What a recipe may move, by name."""

_NORMALISATION = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm)
_ADDED = ("adapter:", "input:")


@dataclass(frozen=True)
class MovingParameters:
    """The parameters that adaptation may move, and where they came from.

    Attributes:
        named: Name to parameter; names of added adapters begin with ``adapter:`` or ``input:``.
        groups: The groups that contributed, as recorded.
        input_adapter: The adapter in front of the network, if the recipe asked for one.
    """

    named: dict[str, nn.Parameter]
    groups: tuple[str, ...]
    input_adapter: InputAdapter | None = None

    @property
    def tensors(self) -> list[nn.Parameter]:
        """The parameters in a fixed order."""
        return list(self.named.values())

    @property
    def count(self) -> int:
        """Number of scalars that may move."""
        return sum(parameter.numel() for parameter in self.named.values())

    @property
    def adapters(self) -> dict[str, nn.Parameter]:
        """The parameters that are not in the network's state dict."""
        return {name: p for name, p in self.named.items() if name.startswith(_ADDED)}

    def snapshot(self) -> list[Tensor]:
        """Copy the present values."""
        return [parameter.detach().clone() for parameter in self.tensors]

    @torch.no_grad()
    def restore(self, values: Sequence[Tensor]) -> None:
        """Put values back, bit for bit."""
        for parameter, value in zip(self.tensors, values, strict=True):
            parameter.copy_(value)


class _ChannelAffine:
    """Forward hook: scale and shift each channel of a layer's output, starting at identity."""

    def __init__(self, channels: int, like: Tensor, *, channels_last: bool) -> None:
        self.scale = nn.Parameter(torch.ones(channels, device=like.device, dtype=like.dtype))
        self.shift = nn.Parameter(torch.zeros(channels, device=like.device, dtype=like.dtype))
        self.channels_last = channels_last

    def __call__(self, layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        axes = [1] * output.ndim
        axes[-1 if self.channels_last else 1] = self.scale.numel()
        return output * self.scale.view(axes) + self.shift.view(axes)


def normalisation_layers(network: nn.Module) -> dict[str, nn.Module]:
    """List a network's normalisation layers by name, in the order of its modules."""
    return {name: m for name, m in network.named_modules() if isinstance(m, _NORMALISATION)}


def resolve_parameters(
    network: nn.Module, groups: Sequence[str], *, image: Tensor | None = None
) -> MovingParameters:
    """Choose what may move, freeze everything else.

    Args:
        network: The episode's private copy; its `requires_grad` flags and hooks change.
        groups: Names out of `PARAMETER_GROUPS`.
        image: One batch (b, c, *s), needed for ``input`` to place its knots.

    Returns:
        The moving parameters; adapters start at identity.

    Raises:
        NothingToAdaptError: If no parameter of these groups exists.
    """
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    named: dict[str, nn.Parameter] = {}
    used: list[str] = []
    for group in groups:
        found, name = _find(network, group)
        named |= found
        used += [name] if found else []
    adapter = None
    if "input" in groups and image is not None:
        adapter = InputAdapter.for_image(image)
        named |= {f"input:{name}": parameter for name, parameter in adapter.named_parameters()}
        used.append("input")
    if not named:
        raise NothingToAdaptError(
            f"parameters must exist in the network, found none for {', '.join(groups)} in "
            f"{type(network).__name__} with {len(normalisation_layers(network))} normalisation "
            "layers. Choose parameters=('all',) in the recipe, or ('input',) in one without "
            "focus_views."
        )
    for parameter in named.values():
        parameter.requires_grad_(True)
    return MovingParameters(named, tuple(used), adapter)


def _find(network: nn.Module, group: str) -> tuple[dict[str, nn.Parameter], str]:
    if group == "all":
        return dict(network.named_parameters()), "all"
    if group == "input":
        return {}, "input"
    affine = _affine_parameters(network)
    if group == "norm" and affine:
        return affine, "norm"
    return _add_adapters(network), "adapters"


def _affine_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    return {
        f"{layer_name}.{name}".lstrip("."): parameter
        for layer_name, layer in normalisation_layers(network).items()
        for name, parameter in layer.named_parameters(recurse=False)
    }


def _add_adapters(network: nn.Module) -> dict[str, nn.Parameter]:
    like = next((p for p in network.parameters() if p.is_floating_point()), torch.zeros(()))
    named: dict[str, nn.Parameter] = {}
    for name, layer in normalisation_layers(network).items():
        if any(True for _ in layer.parameters(recurse=False)):
            continue
        channels = _channels(layer)
        affine = _ChannelAffine(channels, like, channels_last=isinstance(layer, nn.LayerNorm))
        layer.register_forward_hook(affine)
        named[f"adapter:{name}.scale"] = affine.scale
        named[f"adapter:{name}.shift"] = affine.shift
    return named


def _channels(layer: nn.Module) -> int:
    """Width of a layer's channel axis."""
    if isinstance(layer, nn.LayerNorm):
        return layer.normalized_shape[-1]
    channels = layer.num_channels if isinstance(layer, nn.GroupNorm) else layer.num_features
    return int(channels)  # type: ignore[arg-type]
