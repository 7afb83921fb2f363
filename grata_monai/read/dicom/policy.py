"""What triage knows: kinds of objects, transfer syntaxes, tolerances, and what to do."""

from functools import cache

from pydicom.uid import UID

from grata_monai.core.errors import DicomError
from grata_monai.read.dicom.codec import has_decoder
from grata_monai.read.dicom.rejection import Reason, Refusal

__all__ = [
    "REMEDIES",
    "can_decode",
    "is_enhanced",
    "make_refusal",
    "modality_of",
    "name_uid",
    "refuse",
]

CLASSIC = {"1.2.840.10008.5.1.4.1.1.2": "CT", "1.2.840.10008.5.1.4.1.1.4": "MR"}
ENHANCED = {
    "1.2.840.10008.5.1.4.1.1.2.1": "CT",
    "1.2.840.10008.5.1.4.1.1.4.1": "MR",
    "1.2.840.10008.5.1.4.1.1.2.2": "CT",  # legacy converted
    "1.2.840.10008.5.1.4.1.1.4.4": "MR",
}
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


def refuse(reason: Reason, message: str) -> DicomError:
    """Make the error of a refusal.

    Args:
        reason: The code.
        message: Which rule was broken and by what values; no identifier, no element's text.

    Returns:
        To be raised; its text ends with what to do.
    """
    return DicomError(f"{message} {REMEDIES[reason]}", reason=reason.value)


def make_refusal(error: DicomError, *, name: str, instances: int) -> Refusal:
    """Turn a refusal's error into an entry of the triage.

    Args:
        error: With a code of `Reason`.
        name: Of the volume or file.
        instances: How many are concerned.

    Returns:
        The entry.
    """
    reason = Reason(error.reason)
    remedy = REMEDIES[reason]
    message = str(error).removesuffix(remedy).strip()
    return Refusal(name, reason, message, remedy, instances)


def modality_of(sop_class_uid: str) -> str:
    """``CT`` or ``MR``; empty for what we do not read."""
    return {**CLASSIC, **ENHANCED}.get(sop_class_uid, "")


def is_enhanced(sop_class_uid: str) -> bool:
    """Whether frames have functional groups."""
    return sop_class_uid in ENHANCED


def name_uid(uid: str) -> str:
    """Name a UID that the standard defines; others are not printed, they may identify."""
    name = UID(uid).name
    return "one that the standard does not define" if name == uid else name


@cache
def can_decode(transfer_syntax_uid: str) -> bool:
    """Whether a decoder for the syntax is there; nothing is decoded."""
    return has_decoder(transfer_syntax_uid)
