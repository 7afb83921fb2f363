"""Select volumes among the accepted ones, by rules that a bundle states as data."""

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from grata_monai.core.patterns import check_pattern
from grata_monai.read.dicom.rejection import Reason, Rejection, reject
from grata_monai.read.dicom.volume import DicomVolume

__all__ = ["MISMATCH", "Selection", "note_mismatches", "select"]

MISMATCH = "the network was trained on another "
"""How a note begins that says that a series is not what the network knows."""

MODALITIES = ("CT", "MR")
ORIENTATIONS = ("sagittal", "coronal", "axial")  # by the axis, x, y, z, nearest to the normal
LONGEST = 256  # characters of a description that are looked at; DICOM allows 64
TEXTS = ("modality", "body_part", "image_type")
RULES = ("refuse", "keep", "most_slices", "finest_slices")


@dataclass(frozen=True)
class Selection:
    """Rules that a volume must meet; those left out are met by every volume.

    Attributes:
        modality: Any of ``CT``, ``MR``.
        body_part: Any of these values of BodyPartExamined, in any case.
        description: Regular expression, found anywhere in SeriesDescription, in any case; one whose
            time is bounded, see `grata_monai.core.patterns`.
        image_type: Values that ImageType must hold, all of them, in any case.
        minimum_slices: At least 2.
        orientation: ``axial``, ``coronal`` or ``sagittal``: what the planes come nearest to.
        on_many: What to do when several volumes of one study match, and rules were given at all:
            ``refuse`` them all; ``keep`` each as a volume of its own; the one with
            ``most_slices``, or ``finest_slices``, if there is exactly one.
        require_frame_of_reference: Whether a series without FrameOfReferenceUID is refused.

    Raises:
        TypeError: If a value has the wrong type.
        ValueError: If a value is not allowed.
    """

    modality: Sequence[str] = ()
    body_part: Sequence[str] = ()
    description: str = ""
    image_type: Sequence[str] = ()
    minimum_slices: int = 2
    orientation: str = ""
    on_many: str = "refuse"
    require_frame_of_reference: bool = True

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, _clean(field.name, getattr(self, field.name)))
        _check_among("modality", self.modality, MODALITIES)
        _check_among("orientation", [self.orientation] if self.orientation else [], ORIENTATIONS)
        _check_among("on_many", [self.on_many], RULES)
        if self.minimum_slices < 2:
            raise ValueError(f"minimum_slices must be at least 2, got {self.minimum_slices}.")
        try:
            check_pattern(self.description)
        except ValueError as error:
            raise ValueError(
                f"description must be a regular expression of bounded time, got "
                f"{self.description!r}: {error}"
            ) from error

    @property
    def is_choosing(self) -> bool:
        """Whether any rule was given that a volume may fail."""
        rules = (self.modality, self.body_part, self.description, self.image_type, self.orientation)
        return any(rules) or self.minimum_slices > 2

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Selection":
        """Make a selection of plain values.

        Args:
            values: Names of attributes and their values; a single text stands for a list of one.

        Returns:
            The selection.

        Raises:
            TypeError: If a value has the wrong type.
            ValueError: If a name is unknown or a value is not allowed.
        """
        _check_among("selection's keys", values, [field.name for field in fields(cls)])
        return cls(**{name: _clean(name, value) for name, value in values.items()})

    @classmethod
    def from_json(cls, path: str | Path) -> "Selection":
        """Read a selection from a JSON file with one object.

        Args:
            path: Of the file.

        Returns:
            The selection.

        Raises:
            TypeError: If a value has the wrong type.
            ValueError: If the file cannot be read, a name is unknown or a value is not allowed.
        """
        path = Path(path)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"selection must be a JSON file, {path.name!r} is not "
                f"({type(error).__name__}). Check the path and its syntax."
            ) from error
        if not isinstance(values, dict):
            raise ValueError(
                f"selection must be one JSON object, {path.name!r} holds another value."
            )
        return cls.from_dict(values)


def select(
    volumes: Sequence[DicomVolume], selection: Selection
) -> tuple[list[DicomVolume], list[Rejection]]:
    """Keep the volumes that meet the rules, and apply `on_many` where several of a study do.

    Args:
        volumes: Accepted by triage.
        selection: The rules.

    Returns:
        Volumes kept, in their order; and the others, `not_selected` or `ambiguous_selection`.
    """
    if not selection.is_choosing:
        return list(volumes), []
    misses = [(volume, _find_miss(volume, selection)) for volume in volumes]
    matches = [volume for volume, miss in misses if not miss]
    rejections = [_reject(volume, Reason.NOT_SELECTED, miss) for volume, miss in misses if miss]
    kept: list[DicomVolume] = []
    ordered = sorted(matches, key=lambda volume: volume.study_uid)
    for _, group in groupby(ordered, key=lambda volume: volume.study_uid):
        settled, refused = _settle(list(group), selection.on_many)
        kept += settled
        rejections += refused
    return [volume for volume in volumes if volume in kept], rejections


def note_mismatches(volumes: Iterable[DicomVolume], expected: Selection) -> list[DicomVolume]:
    """Note on volumes where they are not what the network was trained on, as far as DICOM says.

    Args:
        volumes: Selected ones.
        expected: What the network was trained on; an element that a volume lacks is no mismatch.

    Returns:
        The volumes, each with a note per mismatch; no text of an element goes into it.
    """
    return [
        replace(volume, notes=(*volume.notes, *_list_mismatches(volume, expected)))
        for volume in volumes
    ]


def _list_mismatches(volume: DicomVolume, expected: Selection) -> Iterator[str]:
    for name, rule in _broken_rules(volume, expected):
        told = {"body_part": volume.body_part, "description": volume.description}
        if told.get(name, "told"):
            yield f"{MISMATCH}{name}, {rule}"


def _find_miss(volume: DicomVolume, selection: Selection) -> str:
    """Name the first rule that a volume breaks."""
    for name, rule in _broken_rules(volume, selection):
        return f"Volume must meet the selection's {name}, {rule}."
    return ""


def _broken_rules(volume: DicomVolume, selection: Selection) -> Iterator[tuple[str, str]]:
    """Name every rule that a volume breaks, and how; no free text of an element goes into it."""
    types = {value.upper() for value in volume.image_type}
    plane = _orientation(volume)
    slices = len(volume.frames)
    image_type = {value.upper() for value in selection.image_type}
    found = {
        "modality": (volume.modality, selection.modality),
        "orientation": (plane, (selection.orientation,)),
        "minimum_slices": (slices, (f"{selection.minimum_slices} or more",)),
        "body_part": ("another", selection.body_part),
        "image_type": ("another", selection.image_type),
        "description": ("another", (selection.description,)),
    }
    is_met = {
        "modality": not selection.modality or volume.modality in selection.modality,
        "body_part": _is_among(volume.body_part, selection.body_part),
        "description": _is_described(volume.description, selection.description),
        "image_type": image_type <= types,
        "minimum_slices": slices >= selection.minimum_slices,
        "orientation": selection.orientation in ("", plane),
    }
    for name, met in is_met.items():
        if not met:
            value, wanted = found[name]
            yield name, f"which is {' or '.join(wanted)}; it has {value}"


def _is_described(text: str, pattern: str) -> bool:
    return re.search(pattern, text[:LONGEST], re.IGNORECASE) is not None


def _is_among(value: str, allowed: Sequence[str]) -> bool:
    return not allowed or value.upper() in {text.upper() for text in allowed}


def _orientation(volume: DicomVolume) -> str:
    return ORIENTATIONS[int(abs(volume.normal).argmax())]


def _settle(
    volumes: Sequence[DicomVolume], rule: str
) -> tuple[Sequence[DicomVolume], list[Rejection]]:
    """Apply the rule to the matches of one study."""
    if len(volumes) == 1 or rule == "keep":
        return volumes, []
    found = f"{len(volumes)} volumes of one study meet the selection"
    if rule == "refuse":
        message = f"One volume per study must meet the selection, {len(volumes)} do."
        return [], [_reject(volume, Reason.AMBIGUOUS_SELECTION, message) for volume in volumes]
    ranks = [_rank(volume, rule) for volume in volumes]
    best = [volume for volume, rank in zip(volumes, ranks, strict=True) if rank == max(ranks)]
    if len(best) > 1:
        message = f"Rule {rule} must leave one volume, {len(best)} of one study are equal in it."
        return [], [_reject(volume, Reason.AMBIGUOUS_SELECTION, message) for volume in volumes]
    message = f"{found}; rule {rule} chose another."
    others = [volume for volume in volumes if volume is not best[0]]
    return best, [_reject(volume, Reason.NOT_SELECTED, message) for volume in others]


def _rank(volume: DicomVolume, rule: str) -> float:
    if rule == "most_slices":
        return float(len(volume.frames))
    return -round(volume.slice_spacing, 3)


def _reject(volume: DicomVolume, reason: Reason, message: str) -> Rejection:
    instances = len({frame.sop_instance_uid for frame in volume.frames})
    return Rejection.from_error(reject(reason, message), name=volume.name, instances=instances)


def _clean(name: str, value: object) -> Any:
    """Check the type of a rule's value; lists become tuples."""
    if name in TEXTS:
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list | tuple) or not all(isinstance(v, str) for v in values):
            raise TypeError(f"{name} must be a list of texts, got {value!r}.")
        return tuple(values)
    kind = {"minimum_slices": int, "require_frame_of_reference": bool}.get(name, str)
    if type(value) is not kind:
        raise TypeError(f"{name} must be of type {kind.__name__}, got {value!r}.")
    return value


def _check_among(name: str, values: Iterable[str], allowed: Sequence[str]) -> None:
    for value in values:
        if value not in allowed:
            near = difflib.get_close_matches(str(value), allowed, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{name} must be among {', '.join(allowed)}, got {value!r}.{hint}")
