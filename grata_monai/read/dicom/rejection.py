"""Say why a DICOM file or volume is rejected: stable reason codes, each with what to do."""

from dataclasses import dataclass
from enum import StrEnum

from grata_monai.core.errors import DicomError

__all__ = ["REMEDIES", "Reason", "Rejection", "reject"]


class Reason(StrEnum):
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
    MOSAIC = "mosaic"
    SPLIT_STACK = "split_stack"
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


_EXPORT_AGAIN = "Export the series again from the archive, or ask the scanner's staff."

REMEDIES: dict[Reason, str] = {
    Reason.TOO_FEW_SLICES: "Send the whole series; a single slice is no volume.",
    Reason.MISSING_SLICES: "Fetch the series again, all its instances.",
    Reason.IRREGULAR_SPACING: "Have it reconstructed with equal spacing, or resample it knowingly.",
    Reason.CONFLICTING_DUPLICATES: (
        "Send one image per position: one time point, one reconstruction, one encoding."
    ),
    Reason.MIXED_ORIENTATION: "Split the series by orientation, and send the one to segment.",
    Reason.MIXED_SIZE: "Split the series by Rows and Columns, and send the one to segment.",
    Reason.MIXED_SPACING: "Split the series by PixelSpacing, and send the one to segment.",
    Reason.MIXED_FRAME_OF_REFERENCE: "Split the series by FrameOfReferenceUID.",
    Reason.MIXED_PIXEL_FORMAT: "Export the series again with one pixel format.",
    Reason.MOSAIC: "Export single slices or enhanced MR, or convert it (dcm2niix).",
    Reason.SPLIT_STACK: (
        "Send one kind of image per series; or correct ImageType and EchoNumbers if all of them "
        "are one volume."
    ),
    Reason.LOCALIZER: "Send the diagnostic series; a localizer is no volume.",
    Reason.SECONDARY_CAPTURE: "Send the images it was made from.",
    Reason.NOT_AN_IMAGE: "Nothing, if images were sent beside it; it holds no pixels.",
    Reason.UNSUPPORTED_IMAGE: "Send CT or MR images, classic or enhanced.",
    Reason.COLOUR: "Send the grey-scale images.",
    Reason.INVALID_GEOMETRY: _EXPORT_AGAIN,
    Reason.INVALID_RESCALE: _EXPORT_AGAIN,
    Reason.INVALID_PIXEL_FORMAT: _EXPORT_AGAIN,
    Reason.NO_FRAME_OF_REFERENCE: (
        "Export it with its FrameOfReferenceUID, or allow its absence "
        "(--allow-no-frame-of-reference) if no other series has to match it."
    ),
    Reason.UNSUPPORTED_TRANSFER_SYNTAX: (
        "Have the archive send Explicit VR Little Endian, or convert it (dcmdjpeg, gdcmconv --raw)."
    ),
    Reason.DEFLATED: "Have the archive send Explicit VR Little Endian, or inflate it (dcmconv).",
    Reason.TRUNCATED_PIXEL_DATA: "Copy or fetch the file again; it is cut off.",
    Reason.OVER_PIXEL_BUDGET: "Raise Limits.pixel_budget_bytes if you trust where it comes from.",
    Reason.OVER_DECODING_LIMIT: "Raise Limits if you trust where the file comes from.",
    Reason.UNDECODABLE: "Copy or fetch the file again, or have the archive send it uncompressed.",
    Reason.UNREADABLE: "Copy or fetch the file again.",
    Reason.NOT_SELECTED: "Nothing, if it is not meant; else correct the selection.",
    Reason.AMBIGUOUS_SELECTION: (
        "Narrow the selection (description, image_type, orientation), or state a rule in on_many."
    ),
}


@dataclass(frozen=True)
class Rejection:
    """One rejected volume, or one rejected group of files.

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

    @classmethod
    def from_error(cls, error: DicomError, *, name: str, instances: int) -> "Rejection":
        """Make the entry of a triage from the error that rejected something.

        Args:
            error: Made by `reject`.
            name: Of the volume or file.
            instances: How many are concerned.

        Returns:
            The entry.
        """
        reason = Reason(error.reason)
        remedy = REMEDIES[reason]
        message = str(error).removesuffix(remedy).strip()
        return cls(name, reason, message, remedy, instances)


def reject(reason: Reason, message: str) -> DicomError:
    """Make the error that rejects a file or volume.

    Args:
        reason: The code.
        message: Which rule was broken and by what values; no identifier, no element's text.

    Returns:
        To be raised; its text ends with what to do.
    """
    return DicomError(f"{message} {REMEDIES[reason]}", reason=reason.value)
