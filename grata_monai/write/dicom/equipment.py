"""Name the equipment that made an object: manufacturer, model, version, and what it computed."""

from typing import Any

from grata_monai.record import Record
from grata_monai.record.environment import versions
from grata_monai.write import RESEARCH_ONLY

__all__ = ["algorithm_parameters", "describe_series", "equipment"]

NAME = "grata_monai"
MANUFACTURER = "the developers of grata_monai"
LONG_STRING = 64  # characters of a DICOM LO


def equipment(record: Record) -> dict[str, Any]:
    """Name manufacturer, model, version and serial number, as highdicom's constructors take them.

    The serial number is the beginning of the digest of the network's weights, so that results of
    different weights can be told apart.

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
    }


def software_version() -> str:
    """Version of grata_monai, short enough for a DICOM LO."""
    return versions()["grata-monai"][:LONG_STRING]


def algorithm_parameters(record: Record) -> dict[str, str]:
    """List what determines the result: recipe, weights, steps, and how it ended.

    Args:
        record: Of the case.

    Returns:
        Names and values for Algorithm Parameters (0066,0032).
    """
    return {
        "recipe": str(record.recipe.get("name", "unnamed")),
        "recipe_sha256": record.recipe_sha256,
        "steps": str(record.steps_taken),
        "outcome": str(record.outcome),
        "weights_sha256": record.weights.before,
        "record_sha256": record.digest,
    }


def describe_series(text: str) -> str:
    """Mark a SeriesDescription as research only; cut to the 64 characters of a DICOM LO."""
    return f"{RESEARCH_ONLY}: {text}"[:LONG_STRING].rstrip()
