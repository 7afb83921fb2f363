"""An adapter in front of the network: a smooth intensity curve and a low-order bias field.

It adapts the scanner, not the anatomy, and gives networks without a single affine parameter
something to move.
"""

from itertools import product

import torch
from torch import Tensor, nn

__all__ = ["InputAdapter"]

_KNOTS = 6
_DEGREE = 2


class InputAdapter(nn.Module):
    """Map image intensities smoothly; the identity until its parameters move.

    The curve adds Gaussian bumps at evenly spaced knots over the image's own intensity range; the
    bias field multiplies by the exponential of a polynomial in position, without a constant term.

    Args:
        lowest: Per channel, the intensity of the first knot.
        highest: Per channel, the intensity of the last knot.
        spatial_dims: Two or three.
    """

    def __init__(self, lowest: Tensor, highest: Tensor, spatial_dims: int) -> None:
        super().__init__()
        fractions = torch.linspace(0, 1, _KNOTS, device=lowest.device)
        self.register_buffer("knots", lowest[:, None] + (highest - lowest)[:, None] * fractions)
        self.powers = [p for p in product(range(_DEGREE + 1), repeat=spatial_dims) if _allowed(p)]
        channels = lowest.numel()
        self.curve = nn.Parameter(torch.zeros(channels, _KNOTS, device=lowest.device))
        self.bias = nn.Parameter(torch.zeros(channels, len(self.powers), device=lowest.device))

    @classmethod
    def for_image(cls, images: Tensor) -> "InputAdapter":
        """Place the knots over the intensity range of one batch (b, c, *s)."""
        flat = images.detach().float().transpose(0, 1).flatten(1)
        return cls(flat.amin(1), flat.amax(1), images.ndim - 2)

    def forward(self, images: Tensor, extents: Tensor | None = None) -> Tensor:
        """Map intensities.

        Args:
            images: (b, c, *s).
            extents: (b, d, 2), where the first and last voxel of each axis lie in the whole image,
                from -1 to 1; None if `images` are whole.

        Returns:
            Images of the same shape and dtype.
        """
        field = self._bias_field(images, extents)
        return (self._curve(images.float()) * field).to(images.dtype)

    def _curve(self, images: Tensor) -> Tensor:
        axes = (1, -1) + (1,) * (images.ndim - 2)
        knots: Tensor = self.knots  # type: ignore[assignment]
        width = (knots[:, 1] - knots[:, 0]).clamp_min(1e-6).view(axes)
        mapped = images
        for index in range(_KNOTS):
            distance = (images - knots[:, index].view(axes)) / width
            mapped = mapped + self.curve[:, index].view(axes) * torch.exp(-0.5 * distance**2)
        return mapped

    def _bias_field(self, images: Tensor, extents: Tensor | None) -> Tensor:
        batch, dims = images.shape[0], images.ndim - 2
        if extents is None:
            extents = torch.tensor([-1.0, 1.0], device=images.device).expand(batch, dims, 2)
        axes = [
            _positions(extents[:, axis], images.shape[2 + axis], axis, dims) for axis in range(dims)
        ]
        exponent: Tensor | float = 0.0
        for index, powers in enumerate(self.powers):
            term = self.bias[:, index].view(1, -1, *(1,) * dims)
            for axis, power in zip(axes, powers, strict=True):
                term = term * axis**power
            exponent = exponent + term
        return torch.exp(torch.as_tensor(exponent))


def _allowed(powers: tuple[int, ...]) -> bool:
    return 0 < sum(powers) <= _DEGREE


def _positions(extent: Tensor, size: int, axis: int, dims: int) -> Tensor:
    """Positions of an axis' voxels in the whole image, shaped to broadcast over (b, c, *s)."""
    fractions = torch.linspace(0, 1, size, device=extent.device)
    along = extent[:, :1] + (extent[:, 1:] - extent[:, :1]) * fractions
    shape = [extent.shape[0], 1] + [1] * dims
    shape[2 + axis] = size
    return along.reshape(shape)
