"""Why a DICOM file or volume is refused: stable codes, each with what to do."""

from dataclasses import dataclass
from enum import Enum

__all__ = ["Reason", "Refusal"]


class Reason(str, Enum):
    """Stable reason codes; `docs/reference/dicom-reasons.md` lists them."""

    TOO_FEW_SLICES = "too_few_slices"
    MISSING_SLICES = "missing_slices"
    IRREGULAR_SPACING = "irregular_spacing"
    CONFLICTING_DUPLICATES = "conflicting_duplicates"
    MIXED_ORIENTATION = "mixed_orientation"
    MIXED_SIZE = "mixed_size"
    MIXED_SPACING = "mixed_spacing"
    MIXED_FRAME_OF_REFERENCE = "mixed_frame_of_reference"
    MIXED_PIXEL_FORMAT = "mixed_pixel_format"
    LOCALIZER = "localizer"
    SECONDARY_CAPTURE = "secondary_capture"
    NOT_AN_IMAGE = "not_an_image"
    UNSUPPORTED_IMAGE = "unsupported_image"
    COLOUR = "colour"
    INVALID_GEOMETRY = "invalid_geometry"
    INVALID_RESCALE = "invalid_rescale"
    INVALID_PIXEL_FORMAT = "invalid_pixel_format"
    NO_FRAME_OF_REFERENCE = "no_frame_of_reference"
    UNSUPPORTED_TRANSFER_SYNTAX = "unsupported_transfer_syntax"
    DEFLATED = "deflated"
    TRUNCATED_PIXEL_DATA = "truncated_pixel_data"
    OVER_PIXEL_BUDGET = "over_pixel_budget"
    OVER_DECODING_LIMIT = "over_decoding_limit"
    UNDECODABLE = "undecodable"
    UNREADABLE = "unreadable"
    NOT_SELECTED = "not_selected"
    AMBIGUOUS_SELECTION = "ambiguous_selection"


@dataclass(frozen=True)
class Refusal:
    """One refused volume, or one refused group of files.

    Attributes:
        name: Like `DicomVolume.name`; of the file's path where there is no series UID.
        reason: The code.
        message: Which rule was broken and by what values; no identifier, no element's text.
        remedy: What to do.
        instances: How many instances are concerned.
    """

    name: str
    reason: Reason
    message: str
    remedy: str
    instances: int
