"""What a guard score is: a number that needs no label, and what happens below its threshold."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from grata_monai.adapt.multiscale import MultiscalePrediction
from grata_monai.adapt.settings import GuardSettings

__all__ = ["Evidence", "GuardScore", "Quality", "Score", "Selected", "write_change"]


class Quality(StrEnum):
    """How far a mask can be relied on: its quality flag."""

    GREEN = "green"
    AMBER = "amber"
    RED = "red"
    NONE = "none"


class Selected(StrEnum):
    """Which prediction the guard selected."""

    SOURCE = "source"
    MIRRORED = "mirrored"
    VIEWS = "views"
    ADAPTED = "adapted"
    NOTHING = ""


@dataclass(frozen=True)
class Evidence:
    """What scores are computed from.

    Attributes:
        before: The multi-scale prediction before adaptation.
        after: The one after it; None if nothing was adapted, or the guard has turned it down.
        mirrored_whole: Consistency of the source's prediction of the whole image with its mirrored
            ones, in [0, 1]; None if it was not asked for.
    """

    before: MultiscalePrediction
    after: MultiscalePrediction | None = None
    mirrored_whole: float | None = None

    @property
    def at_hand(self) -> MultiscalePrediction:
        """The prediction that would be handed on."""
        return self.after or self.before


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

    @property
    def is_below(self) -> bool:
        """Whether it speaks against the prediction."""
        return self.threshold is not None and self.value < self.threshold


@dataclass(frozen=True)
class GuardScore:
    """How a score is measured, and what the guard does below its threshold.

    Attributes:
        name: As records write it.
        measure: The value; None where the evidence does not have it.
        threshold: From the guard's settings; None lets the guard record the score only.
        selects: What is kept below the threshold.
        explain: The reason for a reader, below the threshold.
        is_early: Whether it is decided before anything is adapted.
    """

    name: str
    measure: Callable[[Evidence], float | None]
    threshold: Callable[[GuardSettings], float | None]
    selects: Selected
    explain: Callable[[Score, Evidence], str]
    is_early: bool = False

    def __call__(self, evidence: Evidence, settings: GuardSettings) -> Score | None:
        """Measure; None where the evidence does not have it."""
        value = self.measure(evidence)
        threshold = self.threshold(settings) if settings.is_binding else None
        return None if value is None else Score(self.name, value, threshold)


def write_change(before: float, after: float) -> str:
    """Write two numbers with as many decimals as it takes to tell them apart, three at least.

    >>> write_change(0.81, 0.74)
    '0.810 → 0.740'
    >>> write_change(0.9091, 0.9089)
    '0.9091 → 0.9089'
    """
    digits = next((n for n in range(3, 16) if f"{before:.{n}f}" != f"{after:.{n}f}"), 3)
    return f"{before:.{digits}f} → {after:.{digits}f}"
