"""Read the private scale of Philips MR, and undo it where it differs from slice to slice.

Philips stores floating-point values of the reconstruction as whole numbers, by a factor of its own
in each image: scale slope, a private element. RescaleSlope and RescaleIntercept lead from stored
values to what the console displays, and may differ per image as well; images compare only as

    (stored × RescaleSlope + RescaleIntercept) / (RescaleSlope × scale slope)

Where the divisor is the same in all slices it changes nothing, because intensities are scaled per
image, and displayed values are kept, as other readers have them.

The sandbox loads this module: imports stay light.

Source:
    Chenevert et al., "Errors in quantitative image analysis due to platform-dependent image
    scaling", Translational Oncology 7, 2014.
"""

import math
import struct
from collections.abc import Sequence

from pydicom.dataset import Dataset

from grata_monai.read.dicom.rejection import Reason, reject

__all__ = ["PRIVATE_TAGS", "find_rescales", "read_scale"]

GROUP = 0x2005
CREATOR, SCALE_SLOPE = "Philips MR Imaging DD 001", 0x0E
FRAME_CREATOR, FRAME_ATTRIBUTES = "Philips MR Imaging DD 005", 0x0F
BLOCKS = range(0x10, 0x20)  # where scanners and archives put a creator's elements
PRIVATE_TAGS = (
    *(GROUP << 16 | block for block in BLOCKS),
    *(GROUP << 16 | block << 8 | SCALE_SLOPE for block in BLOCKS),
)
SAME = 1e-4  # relative: RescaleSlope is written with few digits

Rescale = tuple[float, float]


def read_scale(dataset: Dataset, *, is_frame: bool = False) -> float:
    """Read the scale slope of an image.

    Args:
        dataset: Of a classic instance, or the functional groups of one frame.
        is_frame: Which of the two.

    Returns:
        Above 0; 0 where there is none, or one that is no such number.
    """
    try:
        if is_frame:
            dataset = dataset.private_block(GROUP, FRAME_CREATOR)[FRAME_ATTRIBUTES].value[0]
        value = dataset.private_block(GROUP, CREATOR)[SCALE_SLOPE].value
        if isinstance(value, bytes):  # implicit VR, and an archive that does not know the creator
            (value,) = struct.unpack("<f", value)
        scale = float(value)
    except MemoryError:
        raise
    except Exception:  # absent, or converters of pydicom raise any error, depending on the bytes
        return 0.0
    return scale if math.isfinite(scale) and scale > 0 else 0.0


def find_rescales(scales: Sequence[float], rescales: Sequence[Rescale]) -> list[Rescale]:
    """Find the slope and intercept that make slices comparable.

    Args:
        scales: Scale slope of each slice, 0 where there is none.
        rescales: RescaleSlope and RescaleIntercept of each.

    Returns:
        The same, unless scale slopes differ; then such that stored values become those of the
        reconstruction.

    Raises:
        DicomError: `invalid_rescale` if only some slices have a scale slope.
    """
    count = sum(scale > 0 for scale in scales)
    if 0 < count < len(scales):
        raise reject(
            Reason.INVALID_RESCALE,
            f"Philips' scale slope must be above 0 in all slices or in none, found it in {count} "
            f"of {len(scales)}.",
        )
    divisors = [s * slope for s, (slope, _) in zip(scales, rescales, strict=True)]
    if max(divisors) - min(divisors) <= SAME * max(map(abs, divisors)):
        return list(rescales)
    return [
        (slope / divisor, intercept / divisor)
        for divisor, (slope, intercept) in zip(divisors, rescales, strict=True)
    ]
