"""Options of a synthetic DICOM series, checked when built."""

from dataclasses import dataclass

import numpy as np
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

__all__ = [
    "LIBRARY",
    "OWN",
    "TRANSFER_SYNTAXES",
    "VENDORS",
    "HTJ2KLossless",
    "Rescale",
    "SeriesOptions",
]

Rescale = tuple[float, float]

HTJ2KLossless = UID("1.2.840.10008.1.2.4.201")  # pydicom 2.4 has no name for it
NATIVE = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)
LIBRARY = (RLELossless, JPEGLSLossless, JPEG2000Lossless)  # pydicom finds their encoders
OWN = (JPEGLossless, JPEGLosslessSV1, JPEGBaseline8Bit, HTJ2KLossless)
TRANSFER_SYNTAXES = tuple(str(uid) for uid in (*NATIVE, *LIBRARY, *OWN))
VENDORS = ("siemens", "philips")


@dataclass(frozen=True)
class SeriesOptions:
    """What kind of series to make; checked when built.

    Attributes:
        modality: ``"MR"`` or ``"CT"``.
        is_enhanced: One file of many frames (Enhanced MR or CT) instead of one file per slice.
        transfer_syntax: One of `TRANSFER_SYNTAXES`. JPEG Baseline takes 8 unsigned bits and loses.
        bits_stored: 2 to 16; up to 8 are stored in bytes, more in words.
        is_signed: Two's complement.
        rescale: Slope and intercept of all slices, or one pair per slice. Nothing: for CT
            (1, -1024) if unsigned and (1, 0) if signed, for classic MR no such elements.
        tilt_degrees: Gantry tilt: each slice lies lower along the columns than the last one.
        is_shuffled: File names and InstanceNumber say nothing about the place of a slice.
        description: SeriesDescription.
        body_part: BodyPartExamined; left out if empty.
        image_type: ImageType; nothing for what a scanner writes.
        series: SeriesNumber, from 1; series of one seed share study and frame of reference.
        seed: Decides all unique identifiers.
        vendor: One of `VENDORS`: whose form enhanced instances have; and ``"philips"`` for MR
            writes a rescale and a private scale slope.
        scales: Philips' scale slope of each slice; nothing for 0.25 in all of them. Where they make
            slices differ, a reader must undo them.

    Raises:
        ValueError: If an option breaks its rule.
    """

    modality: str = "MR"
    is_enhanced: bool = False
    transfer_syntax: str = ExplicitVRLittleEndian
    bits_stored: int = 16
    is_signed: bool = False
    rescale: Rescale | tuple[Rescale, ...] | None = None
    tilt_degrees: float = 0.0
    is_shuffled: bool = False
    description: str = "t2_tse_tra"
    body_part: str = "PROSTATE"
    image_type: tuple[str, ...] = ()
    series: int = 1
    seed: int = 0
    vendor: str = ""
    scales: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.modality not in ("MR", "CT"):
            raise ValueError(f"modality must be 'MR' or 'CT', got {self.modality!r}. Take one.")
        if self.transfer_syntax not in TRANSFER_SYNTAXES:
            raise ValueError(
                f"transfer_syntax must be one of {', '.join(TRANSFER_SYNTAXES)}, got "
                f"{self.transfer_syntax!r}. Take pydicom.uid.ExplicitVRLittleEndian."
            )
        if not 2 <= self.bits_stored <= 16:
            raise ValueError(
                f"bits_stored must lie in 2 to 16, got {self.bits_stored}. Scanners have 12 or 16."
            )
        if self.transfer_syntax == JPEGBaseline8Bit and (self.bits_stored > 8 or self.is_signed):
            raise ValueError(
                f"bits_stored must be 8 and unsigned for JPEG Baseline, got {self.bits_stored}. "
                "Take 8 bits, or JPEG Lossless."
            )
        if not abs(self.tilt_degrees) < 60:
            raise ValueError(
                f"tilt_degrees must lie between -60 and 60, got {self.tilt_degrees}. "
                "Gantries reach 30."
            )
        if self.vendor not in ("", *VENDORS):
            raise ValueError(f"vendor must be one of {VENDORS}, got {self.vendor!r}. Take one.")
        if self.scales and not (self.is_scaled and min(self.scales) > 0):
            raise ValueError(
                f"scales must be above 0, of MR of the vendor 'philips', got {self.scales}. "
                "Leave them out."
            )

    @property
    def is_scaled(self) -> bool:
        """Whether the series has a private scale slope."""
        return self.vendor == "philips" and self.modality == "MR"

    def scale_slopes(self, slices: int) -> list[float]:
        """Private scale slope of each of so many slices, as 32 bits hold it; may be empty."""
        if not self.is_scaled:
            return []
        if len(self.scales) not in (0, slices):
            raise ValueError(
                f"scales must be one per slice ({slices}), got {len(self.scales)}. Give as many."
            )
        return [float(np.float32(scale)) for scale in self.scales or [0.25] * slices]

    def read_rescales(self, slices: int) -> list[Rescale]:
        """Slope and intercept that a reader must apply to each of so many slices."""
        pairs, scales = self.rescales(slices), self.scale_slopes(slices)
        divisors = [s * slope for s, (slope, _) in zip(scales, pairs, strict=False)]
        if len(set(divisors)) < 2:
            return pairs
        return [(a / d, b / d) for d, (a, b) in zip(divisors, pairs, strict=True)]

    def rescales(self, slices: int) -> list[Rescale]:
        """Slope and intercept of each of so many slices."""
        if self.rescale is None:
            default = (1.0, -1024.0) if self.modality == "CT" and not self.is_signed else (1.0, 0.0)
            return [default] * slices
        pairs = np.asarray(self.rescale, dtype=np.float64)
        if pairs.shape not in ((2,), (slices, 2)) or not np.isfinite(pairs).all():
            raise ValueError(
                f"rescale must be a finite pair or one per slice ({slices}), got shape "
                f"{pairs.shape}. Give (slope, intercept)."
            )
        rows = np.broadcast_to(pairs, (slices, 2))
        return [(float(slope), float(intercept)) for slope, intercept in rows]
