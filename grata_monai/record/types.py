"""The record of one case as frozen values, to and from JSON."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import cache
from typing import Annotated, Any

from pydantic import Field, FiniteFloat, TypeAdapter, ValidationError

from grata_monai.core.errors import RecordError
from grata_monai.record.layout import SCHEMA_VERSION, restrict
from grata_monai.record.trust import PredictedQuality, ShiftEntry
from grata_monai.record.verdict import (
    Count,
    Focus,
    FocusWindow,
    Magnitude,
    OrganEntry,
    Organs,
    Share,
    Verdict,
)
from grata_monai.record.written import DicomObject, DicomSeries, Mask, Output, Sha256

__all__ = [
    "BundleVerification",
    "Change",
    "DicomObject",
    "DicomSeries",
    "Environment",
    "Focus",
    "FocusWindow",
    "Mask",
    "MethodEntry",
    "MovingParameters",
    "OrganEntry",
    "Organs",
    "OutcomeName",
    "Output",
    "Precision",
    "PredictedQuality",
    "Record",
    "ShiftEntry",
    "Statistics",
    "StepEntry",
    "Verdict",
    "Views",
    "WeightHashes",
    "Windows",
]

Version = Annotated[str, Field(pattern=r"^1\.\d+$")]
Cosine = Annotated[float, Field(ge=-1, le=1)]
_NO_VERDICT, _NO_FOCUS, _NO_ORGANS = Verdict(), Focus(), Organs()
FloatFormat = Annotated[str, Field(pattern="^(fp32|bf16|fp16)$")]


class OutcomeName(StrEnum):
    """How a case ended."""

    ADAPTED = "adapted"
    VIEWS = "views"
    SOURCE = "source"
    UNADAPTED = "unadapted"  # before 1.7, instead of views


@dataclass(frozen=True)
class MethodEntry:
    """Which method adapted.

    Attributes:
        name: As methods are registered.
        settings: Of the method, as far as they do not stand in the recipe.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class WeightHashes:
    """Fingerprints of weights and buffers, by name and shape.

    Attributes:
        before: Of the caller's network, before the case.
        after: Of the adapted private copy, with what was added to it; as before if there is none.
        restored: Of the caller's network, after the case; always as before.
    """

    before: Sha256
    after: Sha256
    restored: Sha256


@dataclass(frozen=True)
class MovingParameters:
    """What could move.

    Attributes:
        groups: Groups of parameters that the recipe names.
        count: Number of scalars.
        names: Of the parameters.
    """

    groups: tuple[str, ...] = ()
    count: Count = 0
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Statistics:
    """Image statistics in normalisation.

    Attributes:
        image_share: 0: statistics of the source; 1: of the image.
        layers: Layers whose statistics then depend on the image.
    """

    image_share: Share = 0.0
    layers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Views:
    """Views of the image, as recipes write them.

    Attributes:
        weak: Whose predictions average to the pseudo-label.
        prediction: Whose predictions are averaged in the end.
        focus: Magnifications about the organ that the recipe asks for.
        dropped: View to the reason why it did not fit this case.
    """

    weak: tuple[str, ...] = ()
    prediction: tuple[str, ...] = ()
    focus: tuple[str, ...] = ()
    dropped: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Windows:
    """Parts of the image that adaptation saw.

    Attributes:
        roi_size: In voxels.
        starts: First voxel of each window, on the network's grid, or on that of the magnified
            window.
    """

    roi_size: tuple[int, ...] = ()
    starts: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class StepEntry:
    """What one step of adaptation did; what a method does not have is null.

    Attributes:
        rate: Learning rate that the optimiser got.
        update_norm: Euclidean length of the change of all moving parameters.
        is_taken: False if the cosine fell below the recipe's `min_cosine` and ended the adaptation.
        auxiliary_loss: GraTa: at the present weights.
        pseudo_loss: GraTa: at the perturbed weights.
        cosine: GraTa: of the two gradients.
        loss: Of a method with one loss.
    """

    rate: Magnitude | None = None
    update_norm: Magnitude | None = None
    is_taken: bool = True
    auxiliary_loss: FiniteFloat | None = None
    pseudo_loss: FiniteFloat | None = None
    cosine: Cosine | None = None
    loss: FiniteFloat | None = None


@dataclass(frozen=True)
class Change:
    """How the final prediction differs from the source's, on the network's grid.

    Attributes:
        dice: Mean foreground Dice between the two; 1 if both are empty.
        source_voxels: Foreground of the source's.
        final_voxels: Foreground of the final one.
        volume_ratio: final ÷ source; null if the source's is empty.
    """

    dice: Share
    source_voxels: Count
    final_voxels: Count
    volume_ratio: Magnitude | None


@dataclass(frozen=True)
class Precision:
    """Floating-point formats.

    Attributes:
        adaptation: Of the passes while adapting.
        prediction: Of the predictions.
    """

    adaptation: FloatFormat
    prediction: FloatFormat


@dataclass(frozen=True)
class BundleVerification:
    """Which bundle, and whether its files were held to its manifest before the run.

    Attributes:
        is_verified: Whether they were.
        manifest_sha256: Names the state of the whole bundle; null if it was not verified.
        reason: Why it was not verified; else empty.
        name: By its metadata; empty if they do not say.
        version: By its metadata; empty if they do not say.
        signed_by: SHA-256 of the file of the public key with which its signature was verified;
            null if none was asked for.
    """

    is_verified: bool
    manifest_sha256: Sha256 | None
    reason: str
    name: str = ""
    version: str = ""
    signed_by: Sha256 | None = None


@dataclass(frozen=True)
class Environment:
    """Where it ran.

    Attributes:
        device: Its name.
        precision: Of adaptation and prediction.
        seed: Of the generator that draws the strong views.
        threads: CPU threads of torch; masks are compared at equal numbers.
        versions: Of what computes.
        bundle: Whether it was verified; null without a bundle.
    """

    device: str
    precision: Precision
    seed: int
    threads: Annotated[int, Field(ge=1)]
    versions: Mapping[str, str] = field(default_factory=dict)
    bundle: BundleVerification | None = None


@dataclass(frozen=True)
class Record:
    """What was done to one case.

    Attributes:
        schema_version: Version of this layout.
        outcome: adapted: weights or statistics differ from the source network's; source: its single
            pass was kept, reason says why; views: the image was looked at again with the source
            network's weights, magnified, mirrored or corrected; before 1.7 called unadapted.
        reason: Why the source prediction was kept; else empty.
        recipe: Every setting as it took effect; before 1.6, as it was asked for.
        recipe_sha256: Digest of these settings.
        weights: Fingerprints of the network's weights.
        parameters: What could move.
        statistics: Image statistics in normalisation.
        views: Asked for and dropped.
        windows: What adaptation saw.
        steps: What each step did.
        change: How the final prediction differs from the source's.
        environment: Where it ran.
        seconds: Wall time of the source pass, of adaptation and of the prediction.
        verdict: What the guard decided.
        focus: Where the organ was looked at again.
        method: Which method adapted.
        asked: Settings as they were asked for, where the guard's caution changed them.
        asked_sha256: Digest of the recipe that was asked for; before 1.6 empty.
        shift: How foreign the case is; null without a profile of the source cases.
        organs: Each by itself, where there are several, or the prediction is large.
    """

    schema_version: Version
    outcome: OutcomeName
    reason: str
    recipe: Mapping[str, Any]
    recipe_sha256: Sha256
    weights: WeightHashes
    parameters: MovingParameters
    statistics: Statistics
    views: Views
    windows: Windows
    steps: tuple[StepEntry, ...]
    change: Change
    environment: Environment
    seconds: Mapping[str, Magnitude]
    verdict: Verdict = _NO_VERDICT
    focus: Focus = _NO_FOCUS
    method: MethodEntry = MethodEntry("grata")
    asked: Mapping[str, Any] = field(default_factory=dict)
    asked_sha256: Sha256 = ""
    shift: ShiftEntry | None = None
    organs: Organs = _NO_ORGANS

    def __hash__(self) -> int:
        """Hash by content, times left out."""
        return hash(self.digest)

    @property
    def digest(self) -> str:
        """SHA-256 of everything but the times: equal for the same case done the same way."""
        content = self._to_dict()
        del content["seconds"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def steps_taken(self) -> int:
        """Number of steps that moved anything."""
        return sum(step.is_taken for step in self.steps)

    def to_json(self) -> str:
        """Write as JSON text, in the layout that `schema_version` names."""
        return json.dumps(self._to_dict(), sort_keys=True, indent=2)

    def _to_dict(self) -> dict[str, Any]:
        return restrict(asdict(self), self.schema_version)

    @classmethod
    def from_json(cls, text: str) -> "Record":
        """Read back what this or an earlier version wrote; unknown keys are ignored.

        Raises:
            RecordError: If the text is no record.
        """
        try:
            record: Record = _adapter().validate_json(text, strict=True)
        except ValidationError as error:
            found = error.errors(include_url=False)[0]
            if found["loc"] == ("schema_version",) and isinstance(found["input"], str):
                raise RecordError(
                    f"record must have a schema_version of 1.0 to {SCHEMA_VERSION} or a later 1.x, "
                    f"got {found['input']!r}. Read it with the version that wrote it."
                ) from error
            place = ".".join(map(str, found["loc"])) or "its text"
            raise RecordError(
                f"record must be as its schema says, {place} is not: {found['msg']}. "
                "Take the file as it was written, or run the case again."
            ) from error
        return record


@cache
def _adapter() -> Any:  # TypeAdapter[Record], which beartype cannot check
    return TypeAdapter(Record)
