"""Values in which the guard decides: named scores, which prediction was selected, its quality."""

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Quality", "Score", "Selected"]


class Quality(StrEnum):
    """How far a mask can be relied on."""

    GREEN = "green"
    AMBER = "amber"
    RED = "red"
    NONE = "none"


class Selected(StrEnum):
    """Which prediction the guard selected."""

    SOURCE = "source"
    VIEWS = "views"
    ADAPTED = "adapted"
    NOTHING = ""


@dataclass(frozen=True)
class Score:
    """One number that the guard looked at.

    Attributes:
        name: What was measured; names one score of a case.
        value: The higher, the better; no unit.
        threshold: Value below which the score speaks against the prediction; null if the guard only
            reports it.
    """

    name: str
    value: float
    threshold: float | None = None
