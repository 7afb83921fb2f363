"""What a record says of the guard: its verdict, and where organs were looked at again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field, FiniteFloat

from grata_monai.adapt.scores import Quality, Score, Selected
from grata_monai.record.trust import PredictedQuality

__all__ = ["Count", "Focus", "FocusWindow", "Magnitude", "OrganEntry", "Organs", "Share", "Verdict"]

Share = Annotated[float, Field(ge=0, le=1)]
Magnitude = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class Verdict:
    """What the guard decided, without a label.

    Attributes:
        light: green; amber: look closely; red: do not rely on this mask; none: the
            recipe asks for no guard.
        kept: source: its single pass; mirrored: averaged with its mirrored predictions of the
            whole image, on the image's statistics if there are `layers` of them; views: magnified
            views averaged with the source network's weights; adapted: with the adapted weights;
            empty: the recipe asks for no guard. Without the recipe's guard, what adaptation made.
        reason: In plain words.
        agreement: Of the magnified views; null if the network found nothing.
        is_calibrated: Whether the guard's limits were chosen for these weights; if not, it is
            careful. null: there is no guard, or the recipe does not say for which they were.
        scores: What the guard looked at.
        predicted: Quality of the mask; null without a fitted profile of the source cases.
        signs: Prediction (source, kept, mirrored) to what speaks against it, each at least 0;
            empty without a profile.
    """

    light: Quality = Quality.NONE
    kept: Selected = Selected.NOTHING
    reason: str = ""
    agreement: Share | None = None
    is_calibrated: bool | None = None
    scores: tuple[Score, ...] = ()
    predicted: PredictedQuality | None = None
    signs: Mapping[str, Mapping[str, Magnitude]] = field(default_factory=dict)


@dataclass(frozen=True)
class FocusWindow:
    """A magnified window about the organ, before adaptation.

    Attributes:
        view: Its magnification.
        mirrored: Dice between its mirrored predictions.
        neighbours: Mean Dice with the next smaller and larger magnification.
        weight: In the average of all windows.
    """

    view: str
    mirrored: Share
    neighbours: Share
    weight: Share


@dataclass(frozen=True)
class Focus:
    """Where the organ was looked at again.

    Attributes:
        found_by: View of the whole image on which the organ was found; empty if it was not looked
            at again.
        centre: Of the organ, in voxels of the network's grid.
        windows: One per magnification.
    """

    found_by: str = ""
    centre: tuple[FiniteFloat, ...] = ()
    windows: tuple[FocusWindow, ...] = ()


@dataclass(frozen=True)
class OrganEntry:
    """One organ of several, looked at by itself.

    Attributes:
        channel: Output channel of the network; null for a piece of all foreground together.
        centre: In voxels of the network's grid.
        voxels: In the source's prediction.
        light: As of the case, which has the worst of its organs.
        kept: As of the case.
        reason: In plain words.
        agreement: Of the magnified views about it; null if it was not measured.
    """

    channel: Count | None
    centre: tuple[FiniteFloat, ...]
    voxels: Count
    light: Quality
    kept: Selected
    reason: str
    agreement: Share | None


@dataclass(frozen=True)
class Organs:
    """How a case was taken apart, each organ in its own part of the image.

    Attributes:
        entries: The organs that were looked at, by volume.
        left_out: Number of further ones.
        way: whole: predictions of the whole image were kept; parts: for the sake of memory only
            those of parts; empty: the case was not taken apart.
        estimated_bytes: Of memory at the peak, from which the way was chosen.
    """

    entries: tuple[OrganEntry, ...] = ()
    left_out: Count = 0
    way: Annotated[str, Field(pattern="^(whole|parts|)$")] = ""
    estimated_bytes: Count = 0
