"""Auxiliary tasks: what a network must offer for them, and the losses that they give.

Besides its logits, such a network answers one or more tasks with heads that were trained together
with it, on its shared encoder. `grata_monai.networks.MultiTaskUNet` is an example.
"""

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

from grata_monai.core.errors import NetworkError
from grata_monai.core.types import Images, Scalar

__all__ = [
    "ANSWERS",
    "HEAD_LOSSES",
    "SupportsAuxiliaryTasks",
    "denoising",
    "flips_and_turns",
    "reconstruction",
    "require_head",
    "rotation",
    "super_resolution",
]

_NOISE = 0.1
_TURNS = 4

ANSWERS: Mapping[str, int] = {"rotation": _TURNS, "flips_and_turns": _TURNS + 2}
"""Tasks that ask what was done to an image, and how many answers there are: no, one, two and three
quarter turns; then a flip of axis 0, and of axis 1."""


@runtime_checkable
class SupportsAuxiliaryTasks(Protocol):
    """A network with heads for auxiliary tasks.

    Attributes:
        auxiliary_tasks: Tasks that it was trained for, names out of `HEAD_LOSSES`.
    """

    auxiliary_tasks: frozenset[str]

    def auxiliary(self, images: Tensor, task: str) -> Tensor:
        """Answer one task.

        Args:
            images: (b, c, *s), as the task wants them: turned, coarse or noisy.
            task: One of `auxiliary_tasks`.

        Returns:
            For the tasks of `ANSWERS`, logits (b, n) of their n answers; otherwise the restored
            images (b, c, *s) in the intensities of the images.
        """
        ...


def require_head(network: nn.Module, task: str) -> SupportsAuxiliaryTasks:
    """Return the network as one that answers a task.

    Args:
        network: Any network.
        task: What it must answer.

    Returns:
        The same network.

    Raises:
        NetworkError: If it does not offer this task.
    """
    if isinstance(network, SupportsAuxiliaryTasks) and task in network.auxiliary_tasks:
        return network
    offered = sorted(getattr(network, "auxiliary_tasks", ()))
    raise NetworkError(
        f"network must offer the auxiliary task {task!r}, got {type(network).__name__}, which "
        f"offers {', '.join(offered) or 'none'}. Train it with that head "
        "(grata_monai.adapt.heads says how), or choose another loss in the recipe."
    )


def rotation(network: nn.Module, images: Images, *, generator: torch.Generator) -> Scalar:
    """Cross entropy of telling by how many quarter turns each image was turned.

    Args:
        network: With a head for ``rotation``.
        images: (b, c, *s), turned in the plane of spatial axes 0 and 1.
        generator: Draws 0 to 3 turns per image.

    Returns:
        Loss in nats.

    Raises:
        NetworkError: If the network has no such head.
        ValueError: If the extents of axes 0 and 1 differ.

    Source:
        Gidaris et al. 2018; Sun et al. 2020 (TTT).
    """
    return _tell(network, images, task="rotation", generator=generator)


def flips_and_turns(network: nn.Module, images: Images, *, generator: torch.Generator) -> Scalar:
    """Cross entropy of telling which of six views each image is.

    Args:
        network: With a head for ``flips_and_turns``.
        images: (b, c, *s), seen unchanged, turned by one, two or three quarter turns in the plane
            of spatial axes 0 and 1, or mirrored along axis 0 or 1.
        generator: Draws one of the six per image.

    Returns:
        Loss in nats.

    Raises:
        NetworkError: If the network has no such head.
        ValueError: If the extents of axes 0 and 1 differ.

    Source:
        Chen et al., AAAI 2025: "rotation" in their study of losses, six classes.
    """
    return _tell(network, images, task="flips_and_turns", generator=generator)


def reconstruction(network: nn.Module, images: Images, *, generator: torch.Generator) -> Scalar:
    """Mean squared error of the image that the head rebuilds.

    Args:
        network: With a head for ``reconstruction``.
        images: (b, c, *s).
        generator: Not used; every head's loss takes one.

    Returns:
        Loss in squared intensities.

    Raises:
        NetworkError: If the network has no such head.
    """
    return _restore(network, images, images, task="reconstruction")


def super_resolution(network: nn.Module, images: Images, *, generator: torch.Generator) -> Scalar:
    """Mean squared error of the image that the head rebuilds from half its resolution.

    Args:
        network: With a head for ``super_resolution``.
        images: (b, c, *s); averaged over 2 voxels per axis, then interpolated back to their shape.
        generator: Not used; every head's loss takes one.

    Returns:
        Loss in squared intensities.

    Raises:
        NetworkError: If the network has no such head.
    """
    shape = tuple(images.shape[2:])
    small = functional.interpolate(images, [max(1, n // 2) for n in shape], mode="area")
    mode = {2: "bilinear", 3: "trilinear"}[len(shape)]
    coarse = functional.interpolate(small, shape, mode=mode, align_corners=False)
    return _restore(network, coarse, images, task="super_resolution")


def denoising(network: nn.Module, images: Images, *, generator: torch.Generator) -> Scalar:
    """Mean squared error of the image that the head rebuilds from a noisy one.

    Args:
        network: With a head for ``denoising``.
        images: (b, c, *s), about [0, 1]; the noise is Gaussian with standard deviation 0.1.
        generator: Draws the noise.

    Returns:
        Loss in squared intensities.

    Raises:
        NetworkError: If the network has no such head.

    Source:
        Wen et al. 2024 (DeTTA); authors' code of GraTa, `cal_denoise_loss`.
    """
    noise = torch.randn(images.shape, generator=generator, device=generator.device)
    return _restore(network, images + _NOISE * noise.to(images), images, task="denoising")


HEAD_LOSSES: Mapping[str, Callable[..., Tensor]] = {
    "rotation": rotation,
    "flips_and_turns": flips_and_turns,
    "reconstruction": reconstruction,
    "super_resolution": super_resolution,
    "denoising": denoising,
}
"""Losses of a head trained with the network: ``(network, images, generator=…)``."""


def _tell(network: nn.Module, images: Tensor, *, task: str, generator: torch.Generator) -> Tensor:
    """Cross entropy of telling what was done to each image, out of the task's answers."""
    head = require_head(network, task)
    if images.shape[2] != images.shape[3]:
        raise ValueError(
            f"images must have equal extents along spatial axes 0 and 1 to be turned, got "
            f"{images.shape[2]} and {images.shape[3]}. Use windows that are square in this plane."
        )
    drawn = torch.randint(
        ANSWERS[task], (len(images),), generator=generator, device=generator.device
    )
    seen = [
        image.rot90(int(k), (1, 2)) if k < _TURNS else image.flip(int(k) - _TURNS + 1)
        for image, k in zip(images, drawn, strict=True)
    ]
    logits = head.auxiliary(torch.stack(seen), task).float()
    return functional.cross_entropy(logits, drawn.to(images.device))


def _restore(network: nn.Module, spoilt: Tensor, images: Tensor, *, task: str) -> Tensor:
    restored = require_head(network, task).auxiliary(spoilt, task)
    return functional.mse_loss(restored.float(), images.float())
