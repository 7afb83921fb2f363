"""Read the coded concepts of the segments, such as SNOMED CT codes, from the bundle's metadata."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from grata_monai.core.errors import DicomError
from grata_monai.write.pictures.colours import PALETTE

__all__ = ["Segment", "check_numbers", "name_segments", "read_segments"]

ORGAN = codes.SCT.AnatomicalStructure
LEFT, RIGHT = codes.SCT.Left, codes.SCT.Right
# Type and category of labels that the metadata may name without a code.
KNOWN: dict[str, tuple[Code, Code]] = {
    "prostate": (codes.SCT.Prostate, ORGAN),
    "peripheral zone": (codes.SCT.PeripheralZoneOfTheProstate, ORGAN),
    "transition zone": (codes.SCT.TransitionZoneOfTheProstate, ORGAN),
    "seminal vesicle": (codes.SCT.SeminalVesicle, ORGAN),
    "bladder": (codes.SCT.Bladder, ORGAN),
    "rectum": (codes.SCT.Rectum, ORGAN),
    "uterus": (codes.SCT.Uterus, ORGAN),
    "hippocampus": (codes.SCT.Hippocampus, ORGAN),
    "brain": (codes.SCT.Brain, ORGAN),
    "liver": (codes.SCT.Liver, ORGAN),
    "spleen": (codes.SCT.Spleen, ORGAN),
    "kidney": (codes.SCT.Kidney, ORGAN),
    "pancreas": (codes.SCT.Pancreas, ORGAN),
    "gallbladder": (codes.SCT.Gallbladder, ORGAN),
    "stomach": (codes.SCT.Stomach, ORGAN),
    "esophagus": (codes.SCT.Esophagus, ORGAN),
    "colon": (codes.SCT.Colon, ORGAN),
    "aorta": (codes.SCT.Aorta, ORGAN),
    "heart": (codes.SCT.Heart, ORGAN),
    "left atrium": (codes.SCT.LeftAtrium, ORGAN),
    "left ventricle": (codes.SCT.LeftVentricle, ORGAN),
    "lung": (codes.SCT.Lung, ORGAN),
    "neoplasm": (codes.SCT.Neoplasm, codes.SCT.MorphologicallyAbnormalStructure),
}
SAME = {
    "pz": "peripheral zone",
    "tz": "transition zone",
    "urinary bladder": "bladder",
    "oesophagus": "esophagus",
    "tumor": "neoplasm",
    "tumour": "neoplasm",
}
KEYS = {"number", "label", "category", "type", "modifier", "region", "colour"}


@dataclass(frozen=True)
class Segment:
    """One label of the network, with the coded concepts that DICOM describes it by.

    Attributes:
        number: Its value in the mask, from 1.
        label: Its name for people.
        category: Segmented property category (CID 7150).
        type: Segmented property type (CID 7151).
        modifier: Of the type, such as left or right (CID 244).
        region: Anatomic region, where the type itself is not anatomical.
        colour: Recommended red, green and blue, 0 to 255.
    """

    number: int
    label: str
    category: Code
    type: Code
    modifier: Code | None = None
    region: Code | None = None
    colour: tuple[int, int, int] = PALETTE[0]

    def __post_init__(self) -> None:
        """Check number, label and colour."""
        if not 1 <= self.number <= 65535:
            raise ValueError(f"number must lie in 1..65535, got {self.number}. 0 is background.")
        if not self.label.strip() or len(self.label) > 64 or "\\" in self.label:
            raise ValueError(
                "label must have 1 to 64 characters and no backslash, got one of "
                f"{len(self.label)}. Name the segment in a few words."
            )
        if len(self.colour) != 3 or not all(0 <= part <= 255 for part in self.colour):
            raise ValueError(
                f"colour must be three numbers in 0..255, got {self.colour}. "
                "Give red, green and blue."
            )


def read_segments(metadata_path: str | Path) -> tuple[Segment, ...]:
    """Read the coded segments of a bundle.

    The key ``segments`` of ``metadata.json`` lists them, in the order of their numbers::

        "segments": [
            {
                "number": 1,
                "label": "prostate",
                "category": {
                    "value": "91723000", "scheme": "SCT", "meaning": "Anatomical Structure"
                },
                "type": {"value": "41216001", "scheme": "SCT", "meaning": "Prostate"},
                "colour": [230, 159, 0]
            }
        ]

    ``modifier`` and ``region`` are codes too. Only ``number`` and ``label`` must be there: what is
    missing comes from a list of common organs. Without the key, the names in ``channel_def`` of
    the first output are looked up there.

    Args:
        metadata_path: The bundle's ``metadata.json``.

    Returns:
        The segments, numbered 1, 2, 3, …

    Raises:
        DicomError: If the file cannot be read, a segment breaks a rule, or a label without a code
            is not known.
    """
    path = Path(metadata_path)
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
        entries = metadata.get("segments") or _from_channels(metadata)
        segments = tuple(_make_segment(entry) for entry in entries)
        check_numbers(segments)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DicomError(
            f"the bundle's metadata must be a readable JSON file, {path.name!r} is not: "
            f"{type(error).__name__}. Point to the bundle's metadata.json."
        ) from error
    except (AttributeError, KeyError, StopIteration, TypeError, ValueError) as error:
        raise DicomError(
            f"segments in {path.name!r} must be a list of segments with number, label and codes: "
            f"{error}. Compare with the example of grata_monai.write.dicom.read_segments."
        ) from error
    return segments


def name_segments(names: Mapping[int, str]) -> tuple[Segment, ...]:
    """Describe labels of which only names are known.

    Args:
        names: Number in the mask to name. A name that is in the list of common organs, with or
            without a side, gets its code; any other is an anatomical structure of that name.

    Returns:
        The segments, numbered 1, 2, 3, …; a number without a name is called after itself.

    Raises:
        ValueError: If there is no name, or one has no 1 to 64 characters.
    """
    segments = []
    for number in range(1, max(names, default=0) + 1):
        label = names.get(number, f"label {number}")
        entry: dict[str, Any] = {"number": number, "label": label}
        if _split_side(_plain(label))[1] not in (*KNOWN, *SAME):
            entry["type"] = {"value": ORGAN.value, "scheme": "SCT", "meaning": ORGAN.meaning}
        segments.append(_make_segment(entry))
    check_numbers(segments)
    return tuple(segments)


def check_numbers(segments: Sequence[Segment]) -> None:
    """Check that segments are numbered 1, 2, 3, …: BINARY objects cannot hold others.

    Args:
        segments: All segments of an object.

    Raises:
        ValueError: If there is none, or another number.
    """
    numbers = [segment.number for segment in segments]
    if not numbers or numbers != list(range(1, len(numbers) + 1)):
        raise ValueError(
            f"segments must be numbered 1, 2, 3, … in this order, got {numbers}. "
            "Describe every label of the mask but 0"
        )


def _from_channels(metadata: Mapping[str, Any]) -> list[dict[str, Any]]:
    outputs = metadata["network_data_format"]["outputs"]
    channels = next(iter(outputs.values()))["channel_def"]
    named = sorted((int(number), str(name)) for number, name in channels.items())
    return [{"number": number, "label": name} for number, name in named if number > 0]


def _make_segment(entry: Mapping[str, Any]) -> Segment:
    unknown = set(entry) - KEYS
    if unknown:
        raise ValueError(f"a segment has the keys {sorted(KEYS)}, got {sorted(unknown)}")
    number, label = int(entry["number"]), str(entry["label"])
    type_code, modifier, category = _find_type(entry, label)
    colour = entry.get("colour", PALETTE[(number - 1) % len(PALETTE)])
    return Segment(
        number=number,
        label=label,
        category=_as_code(entry["category"]) if "category" in entry else category,
        type=type_code,
        modifier=_as_code(entry["modifier"]) if entry.get("modifier") else modifier,
        region=_as_code(entry["region"]) if entry.get("region") else None,
        colour=(int(colour[0]), int(colour[1]), int(colour[2])),
    )


def _find_type(entry: Mapping[str, Any], label: str) -> tuple[Code, Code | None, Code]:
    """Find type, modifier and category: as given, else by the label."""
    if "type" in entry:
        return _as_code(entry["type"]), None, ORGAN
    side, name = _split_side(_plain(label))
    name = SAME.get(name, name)
    if name not in KNOWN:
        near = get_close_matches(name, [*KNOWN, *SAME], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"label {label!r} has no code of its own and is none of {sorted(KNOWN)}{hint}. "
            'Give it a "type": {"value": "41216001", "scheme": "SCT", "meaning": "Prostate"}'
        )
    type_code, category = KNOWN[name]
    return type_code, side, category


def _plain(label: str) -> str:
    return " ".join(label.lower().replace("_", " ").split())


def _split_side(name: str) -> tuple[Code | None, str]:
    """Take left or right off a name that is not known as a whole."""
    words = name.split()
    for word, side in (("left", LEFT), ("right", RIGHT)):
        if name not in KNOWN and word in (*words[:1], *words[-1:]):
            return side, " ".join(other for other in words if other != word)
    return None, name


def _as_code(entry: Mapping[str, Any]) -> Code:
    """Make a code from ``value``, ``scheme`` and ``meaning``; none may be empty or too long."""
    value, scheme, meaning = (str(entry[key]).strip() for key in ("value", "scheme", "meaning"))
    fits = 0 < len(value) <= 16 and 0 < len(scheme) <= 16 and 0 < len(meaning) <= 64
    if not fits:
        raise ValueError(
            "a code needs value and scheme of 1 to 16 characters and a meaning of 1 to 64, got "
            f"{value!r}, {scheme!r}, {meaning!r}"
        )
    return Code(value, scheme, meaning)
