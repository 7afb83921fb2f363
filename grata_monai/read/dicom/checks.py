"""Check one instance: whether its pixels can be decoded and its geometry and rescale are valid."""

import math

import numpy as np

from grata_monai.read.dicom.headers import INTEGER_PIXELS, Header, Plane
from grata_monai.read.dicom.limits import Limits
from grata_monai.read.dicom.policy import can_decode, is_enhanced, modality_of, name_uid
from grata_monai.read.dicom.rejection import Reason, reject

__all__ = ["ORIENTATION_TOLERANCE", "check_instance", "find_kind"]

SECONDARY_CAPTURES = "1.2.840.10008.5.1.4.1.1.7"  # and the multi-frame ones, .1 to .4
LOCALIZER_TYPES = {"LOCALIZER", "SCOUT", "TOPOGRAM"}
CAPTURE_TYPES = {"SCREEN SAVE", "SCREENSAVE", "SCREEN CAPTURE", "CSA REPORT", "DOSE INFO"}
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"  # with 12 bits no decoder reads it
ORIENTATION_TOLERANCE = 1e-3  # of direction cosines, and of their lengths and scalar product
SPACING_RANGE = (0.01, 100.0)  # mm
FARTHEST = 1e5  # mm from the origin
FLOAT32 = np.finfo(np.float32)


def find_kind(header: Header, plane: Plane | None = None) -> Reason | None:
    """Find instances that are no images of a volume: localizers, captures, objects without pixels.

    Args:
        header: Of the instance.
        plane: One of its frames, whose type counts in an enhanced instance.

    Returns:
        `LOCALIZER`, `SECONDARY_CAPTURE`, `NOT_AN_IMAGE`, `UNSUPPORTED_IMAGE`; None for an image.
    """
    uid = header.sop_class_uid
    if uid == SECONDARY_CAPTURES or uid.startswith(f"{SECONDARY_CAPTURES}."):
        return Reason.SECONDARY_CAPTURE
    if not modality_of(uid):
        has_pixels = min(header.rows, header.columns) > 0
        return Reason.UNSUPPORTED_IMAGE if has_pixels else Reason.NOT_AN_IMAGE
    types = {value.upper() for value in (plane.frame_type if plane else header.image_type)}
    if types & CAPTURE_TYPES:
        return Reason.SECONDARY_CAPTURE
    return Reason.LOCALIZER if types & LOCALIZER_TYPES else None


def check_instance(header: Header, planes: tuple[Plane, ...], *, limits: Limits) -> None:
    """Reject an image that cannot be decoded, or whose geometry or rescale is invalid.

    Args:
        header: Of a CT or MR image.
        planes: Those of its frames that count.
        limits: Pixel budget.

    Raises:
        DicomError: With the code of the first rule that is broken.
    """
    _check_layout(header)
    _check_presence(header)
    _check_syntax(header)
    _check_format(header)
    _check_size(header, limits)
    _check_pixels(header)
    _check_frames(header)
    for plane in planes:
        _check_geometry(plane)
        _check_rescale(header, plane)


def _check_layout(header: Header) -> None:
    """Reject Siemens' mosaics: all slices of a volume as tiles of one image."""
    if "MOSAIC" in {value.upper() for value in header.image_type}:
        raise reject(Reason.MOSAIC, "An image must be one slice, found a mosaic of many.")


def _check_presence(header: Header) -> None:
    if header.pixel_tag == 0:
        raise reject(Reason.TRUNCATED_PIXEL_DATA, "An image must hold pixels, found none.")


def _check_syntax(header: Header) -> None:
    uid = header.transfer_syntax_uid
    if not can_decode(uid):
        raise reject(
            Reason.UNSUPPORTED_TRANSFER_SYNTAX,
            f"Transfer syntax must be one that a decoder is installed for, found {name_uid(uid)}.",
        )
    if uid == JPEG_EXTENDED and header.bits_stored > 8:
        raise reject(
            Reason.UNSUPPORTED_TRANSFER_SYNTAX,
            f"{name_uid(uid)} must hold 8 bits, found {header.bits_stored}; no decoder reads more.",
        )


def _check_format(header: Header) -> None:
    is_grey = header.photometric in ("MONOCHROME1", "MONOCHROME2")
    if header.samples > 1 or header.photometric.startswith(("RGB", "YBR", "PALETTE", "HSV", "CMY")):
        raise reject(
            Reason.COLOUR, f"Pixels must be grey, found {header.samples} sample(s) of colour."
        )
    if header.presentation.endswith(("COLOR", "MIXED")):  # a palette beside the grey values
        raise reject(Reason.COLOUR, "Pixels must be grey, found PixelPresentation of colour.")
    if header.samples != 1 or header.photometric != "MONOCHROME2":
        found = "MONOCHROME1" if is_grey else "another or none"
        raise reject(
            Reason.INVALID_PIXEL_FORMAT,
            f"Pixels must be one sample of MONOCHROME2 (large means bright), found {found}.",
        )
    if header.pixel_tag != INTEGER_PIXELS:
        raise reject(Reason.INVALID_PIXEL_FORMAT, "Pixels must be integers, found floating point.")
    allocated, stored, high = header.bits_allocated, header.bits_stored, header.high_bit
    is_sound = allocated in (8, 16, 32) and 1 <= stored <= allocated and header.is_signed in (0, 1)
    if not is_sound or high not in (stored - 1, -1):
        raise reject(
            Reason.INVALID_PIXEL_FORMAT,
            "BitsAllocated must be 8, 16 or 32, BitsStored at most that, HighBit one less than "
            f"BitsStored, PixelRepresentation 0 or 1, found {allocated}, {stored}, {high}, "
            f"{header.is_signed}.",
        )


def _check_size(header: Header, limits: Limits) -> None:
    size = (header.rows, header.columns, header.frames)
    if min(size[:2]) < 2 or header.frames < 1:
        raise reject(
            Reason.INVALID_PIXEL_FORMAT,
            f"Rows and Columns must be at least 2, NumberOfFrames 1, found {size}.",
        )
    claimed = header.frame_bytes * header.frames
    if claimed > limits.pixel_budget_bytes:
        raise reject(
            Reason.OVER_PIXEL_BUDGET,
            f"Pixels of one file must take at most {limits.pixel_budget_bytes} bytes, "
            f"its header claims {claimed}.",
        )


def _check_pixels(header: Header) -> None:
    if header.is_native:
        expected = header.frame_bytes * header.frames
        is_whole = header.available_bytes >= expected
        rule = f"{expected} bytes of pixels must be there, found {header.available_bytes}."
    else:
        is_whole = header.available_bytes > 0 and len(header.fragments) >= header.frames
        rule = (
            f"Encapsulated pixels must have at least {header.frames} whole fragment(s) and an end, "
            f"found {len(header.fragments)}{'' if header.is_complete else ' and no end'}."
        )
    if not (is_whole and header.is_complete):
        raise reject(Reason.TRUNCATED_PIXEL_DATA, rule)


def _check_frames(header: Header) -> None:
    if header.frames == len(header.planes):
        return
    if not is_enhanced(header.sop_class_uid):
        raise reject(
            Reason.UNSUPPORTED_IMAGE,
            f"A classic instance must hold one frame, found {header.frames} without positions.",
        )
    raise reject(
        Reason.INVALID_GEOMETRY,
        f"Each of {header.frames} frames must have its functional groups, "
        f"{len(header.planes)} have.",
    )


def _check_geometry(plane: Plane) -> None:
    sizes = (len(plane.position), len(plane.orientation), len(plane.spacing))
    if sizes != (3, 6, 2):
        raise reject(
            Reason.INVALID_GEOMETRY,
            "ImagePositionPatient, ImageOrientationPatient and PixelSpacing must have 3, 6 and 2 "
            f"numbers, found {', '.join(map(str, sizes))}.",
        )
    if not all(map(math.isfinite, (*plane.position, *plane.orientation, *plane.spacing))):
        raise reject(
            Reason.INVALID_GEOMETRY,
            "Position, orientation and spacing must be finite numbers, found one that is not.",
        )
    low, high = SPACING_RANGE
    if not all(low <= value <= high for value in plane.spacing):
        raise reject(
            Reason.INVALID_GEOMETRY,
            f"PixelSpacing must lie in [{low}, {high:g}] mm, "
            f"found {' × '.join(f'{value:.4g}' for value in plane.spacing)}.",
        )
    if max(map(abs, plane.position)) > FARTHEST:
        raise reject(
            Reason.INVALID_GEOMETRY, f"Position must lie within {FARTHEST:g} mm, found it farther."
        )
    _check_orientation(plane)


def _check_orientation(plane: Plane) -> None:
    axes = np.asarray(plane.orientation).reshape(2, 3)
    deviation = np.abs(axes @ axes.T - np.eye(2))
    if not deviation.max() <= ORIENTATION_TOLERANCE:
        raise reject(
            Reason.INVALID_GEOMETRY,
            "Orientation must be two orthogonal unit vectors, found lengths "
            f"{np.linalg.norm(axes[0]):.4g} and {np.linalg.norm(axes[1]):.4g} "
            f"and scalar product {axes[0] @ axes[1]:.4g}.",
        )


def _check_rescale(header: Header, plane: Plane) -> None:
    if header.has_lookup_table:
        raise reject(
            Reason.INVALID_RESCALE,
            "Intensities must follow from slope and intercept, found a lookup table.",
        )
    slope, intercept = plane.slope, plane.intercept
    if not (math.isfinite(slope) and math.isfinite(intercept)) or slope == 0:
        raise reject(
            Reason.INVALID_RESCALE,
            "RescaleSlope and RescaleIntercept must be finite, the slope not 0, "
            f"found {slope:g} and {intercept:g}.",
        )
    largest = 2.0 ** (header.bits_stored - header.is_signed)
    range_ = abs(slope) * largest + abs(intercept)
    if range_ > float(FLOAT32.max) or abs(slope) < float(FLOAT32.tiny):
        raise reject(
            Reason.INVALID_RESCALE,
            "Rescaled intensities must fit 32-bit floating point, "
            f"found slope {slope:g} and intercept {intercept:g}.",
        )
