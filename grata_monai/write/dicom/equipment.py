"""Name the equipment that made an object: manufacturer, model, version, and what it computed."""

from typing import Any

import highdicom as hd
from pydicom.sr.codedict import codes

from grata_monai.record import Record
from grata_monai.record.environment import versions
from grata_monai.record.types import BundleVerification
from grata_monai.write import RESEARCH_ONLY

__all__ = ["algorithm_parameters", "describe_series", "equipment"]

NAME = "grata_monai"
MANUFACTURER = "the developers of grata_monai"
LONG_STRING = 64  # characters of a DICOM LO


def equipment(record: Record) -> dict[str, Any]:
    """Name manufacturer, model, version and serial number, as highdicom's constructors take them.

    The serial number is the beginning of the digest of the network's weights, so that results of
    different weights can be told apart. The bundle has contributed: its name and version, the
    digest of its manifest as serial number, and who vouches for it.

    Args:
        record: Of the case.

    Returns:
        Keyword arguments.
    """
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": NAME,
        "software_versions": software_version(),
        "device_serial_number": record.weights.before[:16],
        "contributing_equipment": _name_bundle(record),
    }


def software_version() -> str:
    """Version of grata_monai, short enough for a DICOM LO."""
    return versions()["grata-monai"][:LONG_STRING]


def algorithm_parameters(record: Record) -> dict[str, str]:
    """List what determines the result, how it ended and, with a profile, how far to trust it.

    Args:
        record: Of the case.

    Returns:
        Names and values for Algorithm Parameters (0066,0032).
    """
    shift, predicted = record.shift, record.verdict.predicted
    trust = {} if shift is None else {"shift_percentile": f"{shift.percentile:.0f}"}
    if predicted is not None:
        trust |= {"predicted_dice": f"{predicted.dice:.3f}", "at_least": f"{predicted.lower:.3f}"}
    return {
        "recipe": str(record.recipe.get("name", "unnamed")),
        "recipe_sha256": record.recipe_sha256,
        "steps": str(record.steps_taken),
        "outcome": str(record.outcome),
        "weights_sha256": record.weights.before,
        "record_sha256": record.digest,
        **trust,
    }


def _name_bundle(record: Record) -> list[hd.ContributingEquipment]:
    bundle = record.environment.bundle
    if bundle is None:
        return []
    return [
        hd.ContributingEquipment(
            "authors of the bundle",  # whose names nobody has checked
            codes.DCM.ProcessingEquipment,
            manufacturer_model_name=bundle.name or None,
            software_versions=bundle.version or None,
            device_serial_number=bundle.manifest_sha256,
            contribution_description=f"MONAI bundle, {_say_who_vouches(bundle)}",
        )
    ]


def _say_who_vouches(bundle: BundleVerification) -> str:
    if not bundle.is_verified:
        return f"not verified: {bundle.reason}"
    if bundle.signed_by is None:
        return "verified by its manifest, not signed"
    return f"verified by its signature; SHA-256 of the public key {bundle.signed_by}"


def describe_series(text: str) -> str:
    """Mark a SeriesDescription as research only; cut to the 64 characters of a DICOM LO."""
    return f"{RESEARCH_ONLY}: {text}"[:LONG_STRING].rstrip()
