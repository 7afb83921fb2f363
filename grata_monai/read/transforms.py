"""Preprocessing that MONAI lacks: resampling that every host survives, the way to the device."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Spacingd

__all__ = ["SafeSpacingd", "ToDeviced"]


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
            moved[key] = tensor.to(self.device, non_blocking=True)
        return moved
