"""How long the adaptation of one case may take, looked at between its passes and steps."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from grata_monai.core.errors import AdaptationError

__all__ = ["Clock", "Deadline"]

Clock = Callable[[], float]
"""Seconds of a clock that never goes back."""


@dataclass(frozen=True)
class Deadline:
    """When to stop.

    Attributes:
        limit_s: Seconds from the start, or None for no limit.
        start_s: What the clock said at the start.
        clock: The clock.
        outer: Of the whole case, within which this one lies.
        rule: What must be, for an error.
    """

    limit_s: int | float | None
    start_s: float
    clock: Clock
    outer: "Deadline | None" = None
    rule: str = "adaptation must end within time_limit_s"

    @classmethod
    def start(
        cls,
        limit_s: int | float | None,
        clock: Clock = time.monotonic,
        outer: "Deadline | None" = None,
    ) -> "Deadline":
        """Start counting."""
        return cls(limit_s, clock(), clock, outer)

    @classmethod
    def of_case(cls, limit_s: int | float, elapsed_s: float) -> "Deadline":
        """Count for a whole case, which began some seconds ago."""
        rule = "a case must end within case_seconds"
        return cls(limit_s, time.monotonic() - elapsed_s, time.monotonic, rule=rule)

    def check(self) -> None:
        """Let work go on, or stop it. What has begun is finished first: no pass is cut off.

        Raises:
            AdaptationError: If the time is over.
        """
        if self.outer is not None:
            self.outer.check()
        if self.limit_s is not None and self.clock() - self.start_s > self.limit_s:
            raise AdaptationError(
                f"{self.rule}, {self.limit_s:g} s, it did not. "
                "Allow more time, or use a faster device or a recipe with fewer views and steps."
            )
