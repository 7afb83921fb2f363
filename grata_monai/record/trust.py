"""What a record says of trust: how foreign the case is, and the predicted quality of its mask."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

__all__ = ["PredictedQuality", "ShiftEntry"]

Percentile = Annotated[float, Field(ge=0, le=100)]
Dice = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class ShiftEntry:
    """How foreign the case is to the network, beside its source cases.

    Attributes:
        percentile: Share of source cases that are less foreign, in [0, 100].
        distance: Median over layers; of source cases about 1.
        layers: Layer of the network to its percentile.
    """

    percentile: Percentile
    distance: Annotated[float, Field(ge=0)]
    layers: Mapping[str, Percentile] = field(default_factory=dict)


@dataclass(frozen=True)
class PredictedQuality:
    """Predicted from signs that need no label; not a measurement.

    Attributes:
        dice: Predicted Dice.
        lower: What the Dice reaches as often as the calibration promises, for cases like those that
            it saw.
        because: The sign that takes most from the prediction: shift, entropy, organ, disagreement
            or change.
    """

    dice: Dice
    lower: Dice
    because: str
