"""N4 bias-field correction in front of the source network."""

from dataclasses import dataclass
from typing import ClassVar

import itk
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from grata_monai.adapt.method import Episode, Method, State
from grata_monai.adapt.network import copy_network
from grata_monai.core.errors import AdaptationError
from grata_monai.core.types import Images, Logits

__all__ = ["N4"]

_LEAST_EXTENT = 8  # voxels that an axis keeps when the image is shrunk
_PERCENTILES = (0.5, 99.5)  # as the bundle's preprocessing scales intensities
_Volume = npt.NDArray[np.float32]


@dataclass(frozen=True)
class N4(Method):
    """Divide each channel by its estimated bias field, then predict with the source network.

    The field is estimated on a shrunk image, inside Otsu's mask, and divides the whole image.

    Attributes:
        shrink_factor: Of each axis for estimation; less where fewer than 8 voxels would remain.
        iterations: Most iterations of each fitting level, coarse to fine.
        convergence: Relative change that ends a level.

    Source:
        Tustison et al., N4ITK: Improved N3 Bias Correction, IEEE TMI 2010; the Insight Toolkit's
        `N4BiasFieldCorrectionImageFilter`, whose other settings stay (B-splines of order 3 with 4
        control points per axis, width .15 and noise .01 of the histogram's deconvolution). Four
        levels of 50 iterations and a shrink factor of 4 as in ANTs.

    Deviations:
        The image is shrunk by averaging, not by leaving voxels out. N4 leaves the scale of the
        result open: here the percentiles .5 and 99.5 become what they were, and the result is cut
        off at the range that it had. A channel without contrast stays as it is.
    """

    shrink_factor: int = 4
    iterations: tuple[int, ...] = (50, 50, 50, 50)
    convergence: float = 1e-3
    name: ClassVar[str] = "n4"
    keeps_network: ClassVar[bool] = True

    def start(self, network: nn.Module, episode: Episode) -> State:
        """Copy the network, which stays as it is."""
        return State(episode=episode, network=copy_network(network), is_foreign=True)

    def predict(self, state: State, images: Images) -> Logits:
        """Predict logits (1, k, *s) of the corrected image.

        Raises:
            AdaptationError: If a voxel is negative: N4 takes logarithms.
        """
        lowest = float(images.min())
        if lowest < 0:
            raise AdaptationError(
                f"images must be at least 0 for N4, got {lowest:.3g}. "
                "Scale intensities to [0, 1], or leave 'n4' out."
            )
        return super().predict(state, self._correct(images))

    def _correct(self, images: Images) -> Images:
        channels = [self._correct_channel(channel) for channel in images.float().split(1, dim=1)]
        return torch.cat(channels, 1).to(images.dtype)

    def _correct_channel(self, image: Tensor) -> Tensor:
        """Correct (1, 1, *s)."""
        shape = list(image.shape[2:])
        factors = [min(self.shrink_factor, max(1, extent // _LEAST_EXTENT)) for extent in shape]
        # ITK's splines need two voxels on every axis
        small = [max(2, -(-n // factor)) for n, factor in zip(shape, factors, strict=True)]
        shrunk = functional.interpolate(image, small, mode="area")
        if float(shrunk.min()) == float(shrunk.max()):
            return image
        field = torch.from_numpy(self._estimate_log_field(shrunk[0, 0].cpu().numpy())).to(image)
        mode = "bilinear" if len(shape) == 2 else "trilinear"
        corrected = image / functional.interpolate(field[None, None], shape, mode=mode).exp()
        return _match_percentiles(corrected, image)

    def _estimate_log_field(self, image: _Volume) -> _Volume:
        """Estimate the logarithm of the field that multiplies an image, voxel by voxel."""
        mask = itk.otsu_threshold_image_filter(
            itk.image_from_array(image), inside_value=0, outside_value=1
        )
        inside = itk.array_from_image(mask).astype(np.uint8)
        # outside the mask nothing counts, but a logarithm must exist
        positive = np.maximum(image, 1e-3 * float(image.max())).astype(np.float32)
        log_field: _Volume = np.log(positive / self._run(positive, inside))
        return log_field

    def _run(self, image: _Volume, mask: npt.NDArray[np.uint8]) -> _Volume:
        given, where = itk.image_from_array(image), itk.image_from_array(mask)
        n4 = itk.N4BiasFieldCorrectionImageFilter[type(given), type(where), type(given)].New()
        n4.SetInput(given)
        n4.SetMaskImage(where)
        n4.SetNumberOfFittingLevels(len(self.iterations))
        n4.SetMaximumNumberOfIterations(list(self.iterations))
        n4.SetConvergenceThreshold(self.convergence)
        n4.Update()
        corrected: _Volume = itk.array_from_image(n4.GetOutput())
        return corrected


def _match_percentiles(image: Tensor, reference: Tensor) -> Tensor:
    """Scale an image linearly onto the reference's percentiles, cut off at its range."""
    low, high = _percentiles(image)
    target_low, target_high = _percentiles(reference)
    if high <= low:
        return reference
    scaled = (image - low) / (high - low) * (target_high - target_low) + target_low
    return scaled.clamp(float(reference.min()), float(reference.max()))


def _percentiles(image: Tensor) -> tuple[float, float]:
    low, high = np.percentile(image.cpu().numpy(), _PERCENTILES)
    return float(low), float(high)
