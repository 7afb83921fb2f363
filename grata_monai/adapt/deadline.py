"""How long the adaptation of one case may take, looked at between its passes and steps."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from grata_monai.errors import AdaptationError, RecipeError

__all__ = ["Clock", "Deadline", "check_time_limit"]

Clock = Callable[[], float]
"""Seconds of a clock that never goes back."""


def check_time_limit(limit_s: float | None) -> None:
    """Refuse what is no time limit.

    Args:
        limit_s: Seconds, or None for none.

    Raises:
        RecipeError: If it is neither None nor a finite number above 0.
    """
    is_number = isinstance(limit_s, int | float) and not isinstance(limit_s, bool)
    if limit_s is not None and not (is_number and 0 < limit_s < math.inf):
        raise RecipeError(
            f"time_limit_s must be a number of seconds above 0, or nothing, got {limit_s!r}. "
            "Leave it out for no limit."
        )


@dataclass(frozen=True)
class Deadline:
    """When to stop.

    Attributes:
        limit_s: Seconds from the start, or None for no limit.
        start_s: What the clock said at the start.
        clock: The clock.
    """

    limit_s: float | None
    start_s: float
    clock: Clock

    @classmethod
    def start(cls, limit_s: float | None, clock: Clock = time.monotonic) -> "Deadline":
        """Start counting."""
        return cls(limit_s, clock(), clock)

    def check(self) -> None:
        """Let work go on, or stop it. What has begun is finished first: no pass is cut off.

        Raises:
            AdaptationError: If the time is over.
        """
        if self.limit_s is not None and self.clock() - self.start_s > self.limit_s:
            raise AdaptationError(
                f"adaptation must end within time_limit_s, {self.limit_s:g} s, it did not. "
                "Allow more time, or use a faster device or a recipe with fewer views and steps."
            )
