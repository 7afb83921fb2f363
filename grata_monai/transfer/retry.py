"""How long to wait for a peer, and when to try again: exponential back-off with jitter."""

import logging
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from grata_monai.core.errors import TransferError

__all__ = ["Retry", "TransientError"]

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class TransientError(TransferError):
    """A failure that will probably pass: a peer that is busy, restarting, or out of resources.

    Attributes:
        wait_seconds: How long the peer asks to wait; 0 if it says nothing.
    """

    def __init__(self, message: str, *, wait_seconds: int | float = 0.0) -> None:
        super().__init__(message)
        self.wait_seconds = wait_seconds


@dataclass(frozen=True)
class Retry:
    """How long to wait for an answer, how often to try again, and when; checked when built.

    The n-th wait is drawn between half and all of ``first_seconds * 2 ** (n - 1)``, so that many
    senders do not come back at the same moment, and never exceeds `largest_seconds`.

    Attributes:
        attempts: In all; 1 never tries again.
        first_seconds: Longest first wait.
        largest_seconds: Longest wait.
        connect_seconds: Longest wait for a connection.
        answer_seconds: Longest silence of a peer that has to answer; it may have to ask a tape.
        sleep: Waits for so many seconds; for tests.
        draw: A random number in [0, 1); for tests.

    Raises:
        ValueError: If an attribute breaks its rule.
    """

    attempts: int = 5
    first_seconds: int | float = 1.0
    largest_seconds: int | float = 60.0
    connect_seconds: int | float = 20.0
    answer_seconds: int | float = 120.0
    sleep: Callable[[float], object] = field(default=time.sleep, repr=False, compare=False)
    draw: Callable[[], float] = field(default=random.random, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.attempts, bool) or not isinstance(self.attempts, int):
            raise ValueError(f"attempts must be a whole number, got {self.attempts!r}. Correct it.")
        if self.attempts < 1:
            raise ValueError(f"attempts must be at least 1, got {self.attempts}. 1 never retries.")
        if not 0 <= self.first_seconds <= self.largest_seconds < math.inf:
            raise ValueError(
                "first_seconds must be at least 0 and at most largest_seconds, got "
                f"{self.first_seconds} and {self.largest_seconds}. Correct them."
            )

        for name in ("connect_seconds", "answer_seconds"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(
                    f"{name} must be finite and above 0, got {getattr(self, name)}. Correct it."
                )

    def run(self, action: Callable[[], Result]) -> Result:
        """Run an action until it passes.

        Args:
            action: What to do; must be harmless when repeated.

        Returns:
            What the action returned.

        Raises:
            TransferError: At once if the action raises one that is not transient; after the last
                attempt with the message of the last failure.
        """
        for attempt in range(1, self.attempts + 1):
            try:
                return action()
            except TransientError as error:
                if attempt == self.attempts:
                    raise TransferError(
                        f"{error} Tried {attempt} time(s); send or fetch again later."
                    ) from error
                seconds = self.delay(attempt, error.wait_seconds)
                logger.warning("%s Trying again in %.1f s.", error, seconds)
                self.sleep(seconds)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def delay(self, attempt: int, wait_seconds: int | float = 0.0) -> int | float:
        """How long to wait after a failed attempt.

        Args:
            attempt: Which one, from 1.
            wait_seconds: What the peer asks for; kept up to `largest_seconds`.

        Returns:
            Seconds in [0, `largest_seconds`].
        """
        exponent = min(attempt - 1, 60)  # beyond, a float would overflow
        longest = min(self.first_seconds * 2.0**exponent, self.largest_seconds)
        drawn = longest * (0.5 + 0.5 * self.draw())
        return min(max(drawn, wait_seconds), self.largest_seconds)
