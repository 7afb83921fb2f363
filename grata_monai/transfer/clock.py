"""Cut connections to a peer that takes too long in all, however it spends the time.

The timeout of a socket begins anew with every byte: a peer that sends one byte a second would be
waited for without end. A `Clock` counts from the question to the end of the answer. Large instances
may take longer, as long as bytes keep coming faster than `SLOWEST`.
"""

import socket
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress

from grata_monai.transfer.retry import TransientError

__all__ = ["SLOWEST", "Clock"]

SLOWEST = 128 * 2**10  # bytes per second that a line to a peer must manage
POLL_SECONDS = 0.25


class Clock:
    """Watches the connections to one peer; for one question at a time.

    Args:
        seconds: Until the end of an answer, without the time that its bytes may take.
    """

    def __init__(self, seconds: int | float) -> None:
        self.seconds = seconds
        self._sockets: list[socket.socket] = []
        self._begin = 0.0
        self._moved = 0
        self._is_over = False

    def watch(self, connection: socket.socket) -> None:
        """Count for a connection that has just opened; cut it at once if time is over."""
        self._begin = min(self._begin, time.monotonic())
        self._sockets = [known for known in self._sockets if known.fileno() >= 0]
        self._sockets.append(connection)
        if self._is_over:
            self.cut()

    def move(self, count: int) -> None:
        """Grant the time that so many bytes, sent or received, may take."""
        self._moved += count

    def cut(self) -> None:
        """Shut all connections; whoever reads or writes them sees their end."""
        for connection in self._sockets:
            with suppress(OSError):
                # past `ssl`, which must not be called by two threads at once
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def close(self) -> None:
        """Cut and close all connections."""
        self.cut()
        for connection in self._sockets:
            connection.close()

    @contextmanager
    def running(
        self, question: str, *, connect_seconds: int | float = 0
    ) -> Generator[None, None, None]:
        """Give a block its time, and cut the connections when it is over.

        Args:
            question: What the peer must do, for the message.
            connect_seconds: How long it may take until the connection opens and time begins.

        Raises:
            TransientError: If time was over before the block ended, instead of its own exception.
        """
        done = threading.Event()
        self._begin, self._moved = time.monotonic() + connect_seconds, 0
        self._is_over = False
        guard = threading.Thread(target=self._guard, args=[done], daemon=True)
        guard.start()
        try:
            yield
        except Exception:
            if not self._is_over:
                raise
        finally:
            done.set()
            guard.join()
        if self._is_over:
            raise TransientError(
                f"peer must {question} within {self._allowed():.0f} s, it takes longer."
            )

    def _guard(self, done: threading.Event) -> None:
        while (left := self._begin + self._allowed() - time.monotonic()) > 0:
            if done.wait(min(left, POLL_SECONDS)):
                return
        self._is_over = True
        self.cut()

    def _allowed(self) -> float:
        return self.seconds + self._moved / SLOWEST
