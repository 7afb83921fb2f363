"""Scanner shifts of real images: what another machine might have made of a labelled source case."""

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.random import Generator, default_rng
from scipy import ndimage

from grata_monai.phantom.geometry import Float32
from grata_monai.phantom.scanner import add_noise, apply_scanner_shift

__all__ = ["REAL_SHIFTS", "ShiftScannerd", "check_shifts", "shift_image"]


@dataclass(frozen=True)
class _Scan:
    """An image (x, y, z) of at least 0, its spacing in mm, and what is drawn."""

    image: Float32
    spacing: tuple[float, float, float]
    rng: Generator

    @property
    def seed(self) -> int:
        return int(self.rng.integers(2**31))

    @property
    def bright(self) -> float:
        return float(np.percentile(self.image, 99.5)) + 1e-6


def _named(name: str, severity: float) -> Callable[[_Scan], Float32]:
    def apply(scan: _Scan) -> Float32:
        return apply_scanner_shift(
            scan.image, shift=name, seed=scan.seed, spacing=scan.spacing, severity=severity
        )

    return apply


def _hot_spot(scan: _Scan) -> Float32:
    """A small coil near the middle of the image, up to 25 mm off in-plane."""
    offsets = scan.rng.uniform(-25, 25, 2)
    middle = [(n - 1) / 2 for n in scan.image.shape]
    x, y = (float(m + o / s) for m, o, s in zip(middle, offsets, scan.spacing, strict=False))
    return apply_scanner_shift(
        scan.image,
        shift="endorectal_coil",
        seed=scan.seed,
        spacing=scan.spacing,
        centre=(x, y, middle[2]),
        severity=1.2,
    )


def _gamma(exponent: float) -> Callable[[_Scan], Float32]:
    def apply(scan: _Scan) -> Float32:
        bent = scan.bright * (scan.image / scan.bright) ** exponent
        return np.asarray(bent, dtype=np.float32)

    return apply


def _noise(scan: _Scan) -> Float32:
    return add_noise(scan.image, sigma=0.1 * scan.bright, rng=scan.rng)


def _blur(scan: _Scan) -> Float32:
    """A point spread of 2 mm (standard deviation) in-plane."""
    sigmas = [2.0 / scan.spacing[0], 2.0 / scan.spacing[1], 0.0]
    return np.asarray(ndimage.gaussian_filter(scan.image, sigmas), dtype=np.float32)


def _resolution(scan: _Scan) -> Float32:
    """Two neighbouring voxels in one, in-plane, shown on the old grid."""
    small = ndimage.uniform_filter(scan.image, (2, 2, 1))[::2, ::2]
    x, y, _ = scan.image.shape
    return np.asarray(small.repeat(2, 0).repeat(2, 1)[:x, :y], dtype=np.float32)


_INTENSITIES: Mapping[str, Callable[[_Scan], Float32]] = {
    "none": lambda scan: scan.image,
    "bias_field": _named("bias_field", 1.5),
    "hot_spot": _hot_spot,
    "contrast": _named("contrast_inversion", 0.6),
    "gamma_low": _gamma(0.45),
    "gamma_high": _gamma(2.2),
    "low_field": _named("low_field", 1.5),
    "noise": _noise,
    "blur": _blur,
    "resolution": _resolution,
    "motion": _named("motion", 1.5),
}
_FIELDS_OF_VIEW = {"field_of_view_small": 0.6, "field_of_view_large": 1.4}

REAL_SHIFTS: tuple[str, ...] = (*_INTENSITIES, *_FIELDS_OF_VIEW)
"""Names: intensities of another scanner, and fields of view in which the organ looks smaller
(spacing x .6) or larger (x 1.4)."""


def check_shifts(names: Sequence[str]) -> list[str]:
    """Return the names, or all if there are none.

    Raises:
        ValueError: If a name is not one of `REAL_SHIFTS`.
    """
    unknown = [name for name in names if name not in REAL_SHIFTS]
    if unknown:
        raise ValueError(f"shifts must be among {', '.join(REAL_SHIFTS)}, got {unknown[0]!r}.")
    return list(names or REAL_SHIFTS)


def shift_image(
    image: Float32, *, shift: str, seed: int, spacing: tuple[float, float, float]
) -> Float32:
    """Change the intensities of one channel as another scanner would; the anatomy stays.

    Args:
        image: (x, y, z); lifted to at least 0.
        shift: One of `REAL_SHIFTS`; the fields of view change no intensity.
        seed: Of what is drawn.
        spacing: In mm.

    Returns:
        A new image.

    Raises:
        ValueError: If the shift is unknown.
    """
    if shift not in REAL_SHIFTS:
        raise ValueError(f"shift must be among {', '.join(REAL_SHIFTS)}, got {shift!r}.")
    lifted = np.array(image, dtype=np.float32)
    lifted -= min(float(lifted.min()), 0.0)
    rng = default_rng((seed, REAL_SHIFTS.index(shift)))
    return _INTENSITIES.get(shift, _INTENSITIES["none"])(_Scan(lifted, spacing, rng))


class ShiftScannerd(MapTransform):
    """Let an image that was just read look as if another scanner had made it.

    Intensities change on the image's own grid; fields of view change the spacing in its affine.
    Every case draws from a seed of its own, made from the file's name.

    Args:
        keys: Of images (c, x, y, z) with an affine; a 2D image (c, x, y) is one slice.
        shift: One of `REAL_SHIFTS`.
        seed: Of the run.
    """

    def __init__(self, keys: KeysCollection, shift: str, seed: int = 0) -> None:
        super().__init__(keys)
        if shift not in REAL_SHIFTS:
            raise ValueError(f"shift must be among {', '.join(REAL_SHIFTS)}, got {shift!r}.")
        self.shift = shift
        self.seed = seed

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with shifted images."""
        shifted = dict(data)
        for key in self.key_iterator(shifted):
            shifted[key] = self._shift(shifted[key])
        return shifted

    def _shift(self, image: MetaTensor) -> MetaTensor:
        name = str(image.meta.get("filename_or_obj", "")).rsplit("/", 1)[-1]
        digest = hashlib.sha256(f"{self.seed} {name}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big")
        affine = image.affine.clone()
        spacing = tuple(float(v) for v in affine[:3, :3].norm(dim=0))
        channels = []
        for channel in image.as_tensor().cpu().numpy():
            volume = channel[..., None] if channel.ndim == 2 else channel
            changed = shift_image(
                volume, shift=self.shift, seed=seed, spacing=(spacing[0], spacing[1], spacing[2])
            )
            channels.append(torch.from_numpy(changed.reshape(channel.shape)))
        affine[:3, :2] *= _FIELDS_OF_VIEW.get(self.shift, 1.0)
        result = MetaTensor(torch.stack(channels).to(image.device))
        result.copy_meta_from(image, copy_attr=True)
        result.affine = affine
        return result
