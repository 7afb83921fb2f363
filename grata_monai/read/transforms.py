"""Preprocessing that MONAI lacks: safe resampling and scaling, and the way to the device."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, ScaleIntensityRange, Spacingd, percentile
from monai.utils import convert_to_dst_type, convert_to_tensor

from grata_monai.core.errors import IntensityError
from grata_monai.read.image import name_image
from grata_monai.read.padding import PADDING_KEY

__all__ = ["SafeSpacingd", "ScalePercentilesd", "ToDeviced"]


class SafeSpacingd(Spacingd):
    """MONAI's `Spacingd`, blind to everything but its own keys and dictionaries.

    For an image read from NIfTI, MONAI 1.6 calls ``.update(meta)`` on every item whose key starts
    with ``image_``. MONAI Label's `image_path` is a string and crashes it.
    Arguments are those of `monai.transforms.Spacingd`.
    """

    def __call__(
        self, data: Mapping[Hashable, Any], lazy: bool | None = None
    ) -> dict[Hashable, Any]:
        """Resample `keys`, pass everything else through."""
        visible = {k: v for k, v in data.items() if k in self.keys or _has_meta(k, v)}
        return {**data, **super().__call__(visible, lazy)}


def _has_meta(key: Hashable, value: Any) -> bool:
    return isinstance(key, str) and isinstance(value, dict)


class ScalePercentilesd(MapTransform):
    """Scale intensities linearly, from two percentiles to 0 and 1, and clip them there.

    As MONAI's `ScaleIntensityRangePercentilesd`, but an image without contrast is refused, where
    MONAI hands it on unscaled; and padding, which lies at the image's minimum, is not counted.

    Args:
        keys: Of images.
        lower: Percentile that becomes 0.
        upper: Percentile that becomes 1.
        allow_missing_keys: Whether to pass over missing keys.
    """

    def __init__(
        self, keys: KeysCollection, lower: float, upper: float, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if not 0 <= lower < upper <= 100:
            raise ValueError(
                f"lower and upper must be percentiles in this order, got {lower} and {upper}."
            )
        self.lower, self.upper = lower, upper

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with scaled images.

        Raises:
            IntensityError: If both percentiles are equal.
        """
        scaled = dict(data)
        for key in self.key_iterator(scaled):
            image = torch.as_tensor(scaled[key])
            plain = image.as_tensor() if isinstance(image, MetaTensor) else image
            padding = float(getattr(image, "meta", {}).get(PADDING_KEY, 0.0))
            ends: list[Any] = [
                percentile(plain, 100 * padding + (1 - padding) * rank)
                for rank in (self.lower, self.upper)
            ]
            low, high = ends
            if not low < high:
                raise IntensityError(
                    f"percentiles {self.lower:g} and {self.upper:g} must differ, "
                    f"{name_image(image, key)!r} has {float(low):g} for both: nearly all of its "
                    "voxels are equal. Crop it to the patient, or check the export."
                )
            result = ScaleIntensityRange(low, high, 0.0, 1.0, clip=True)(plain)
            plain = convert_to_tensor(result, track_meta=False)  # MONAI's has meta data of its own
            scaled[key] = convert_to_dst_type(plain, dst=image)[0]
        return scaled


class ToDeviced(MapTransform):
    """Move tensors to a device; to CUDA through pinned memory, without waiting for the copy.

    Meta data and the trace of applied transforms move along, so that `Invertd` works.

    Args:
        keys: Of tensors.
        device: A torch device or its name.
        allow_missing_keys: Whether to pass over missing keys.
    """

    def __init__(
        self,
        keys: KeysCollection,
        device: torch.device | str = "cpu",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.device = torch.device(device)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with tensors on the device."""
        moved = dict(data)
        for key in self.key_iterator(moved):
            tensor = moved[key]
            if self.device.type == "cuda" and tensor.device.type == "cpu":
                tensor = tensor.pin_memory()
            moved[key] = tensor.to(self.device, non_blocking=self.device.type == "cuda")
        return moved
