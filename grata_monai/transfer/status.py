"""What the statuses of C-STORE and the reasons of STOW-RS mean, and what to do (PS3.4 B.2.3)."""

from collections.abc import Mapping

__all__ = ["ASK_LOG", "OUT_OF_RESOURCES", "explain_failure", "is_warning"]

OUT_OF_RESOURCES = range(0xA700, 0xA800)  # the only failures that pass by themselves
ASK_LOG = "Look into the peer's log; sending again is harmless."

_REMEDIES: Mapping[range, str] = {
    range(0x0110, 0x0111): ASK_LOG,
    range(0x0117, 0x0118): "It finds the instance's UID invalid: write the object again.",
    range(0x0122, 0x0123): "It does not take this kind of object: send SEG only where it is known.",
    range(0x0124, 0x0125): "Ask its administrator to let this AE title or account store.",
    OUT_OF_RESOURCES: "It is out of resources: send again later.",
    range(0xA900, 0xAA00): "It finds the object unlike its kind: validate it (dciodvfy).",
    range(0xC000, 0xD000): "It cannot understand the object: validate it (dciodvfy).",
}


def explain_failure(code: int) -> str:
    """Say what to do about the status of a failure.

    >>> explain_failure(0xA700)
    'It is out of resources: send again later.'
    """
    for codes, remedy in _REMEDIES.items():
        if code in codes:
            return remedy
    return ASK_LOG


def is_warning(code: int) -> bool:
    """Whether a status says that the instance is stored, but not as it was sent (PS3.7 C.4)."""
    return code in (0x0001, 0x0107, 0x0116) or 0xB000 <= code <= 0xBFFF
