"""List the SOP classes and transfer syntaxes that are read."""

import re
from functools import cache

from pydicom.uid import RE_VALID_UID, UID

from grata_monai.read.dicom.codec import has_decoder

__all__ = ["can_decode", "is_enhanced", "is_uid", "modality_of", "name_uid"]

CLASSIC = {"1.2.840.10008.5.1.4.1.1.2": "CT", "1.2.840.10008.5.1.4.1.1.4": "MR"}
ENHANCED = {
    "1.2.840.10008.5.1.4.1.1.2.1": "CT",
    "1.2.840.10008.5.1.4.1.1.4.1": "MR",
    "1.2.840.10008.5.1.4.1.1.2.2": "CT",  # legacy converted
    "1.2.840.10008.5.1.4.1.1.4.4": "MR",
}


def modality_of(sop_class_uid: str) -> str:
    """``CT`` or ``MR``; empty for what we do not read."""
    return {**CLASSIC, **ENHANCED}.get(sop_class_uid, "")


def is_enhanced(sop_class_uid: str) -> bool:
    """Whether frames have functional groups."""
    return sop_class_uid in ENHANCED


def name_uid(uid: str) -> str:
    """Name a UID that the standard defines; others are not printed, they may identify."""
    name = UID(uid).name if is_uid(uid) else uid
    return "one that the standard does not define" if name == uid else str(name)


@cache
def can_decode(transfer_syntax_uid: str) -> bool:
    """Whether a decoder for the syntax is there; nothing is decoded."""
    return is_uid(transfer_syntax_uid) and has_decoder(transfer_syntax_uid)


def is_uid(text: str) -> bool:
    """Whether a text has a UID's form: pydicom's log quotes others."""
    return bool(re.fullmatch(RE_VALID_UID, text))
