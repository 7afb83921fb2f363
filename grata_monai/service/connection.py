"""Bound what a DICOM peer may send, and in which time, before it is known and for each message.

pynetdicom would keep 4 GiB of one message in memory, and would wait for ever within one.
"""

import time
from typing import Any

from grata_monai.transfer.association import abort_at_nonsense
from grata_monai.transfer.clock import SLOWEST

__all__ = ["ASKING_SECONDS", "IDLE_SECONDS", "Connection"]

ASKING_SECONDS = 10.0
"""Until the request for an association is there: who asks for nothing holds a place so long."""
ASKING_BYTES = 2**20
"""Of that request; 128 kinds in all encodings are half of it."""
IDLE_SECONDS = 120.0
LARGEST_PDU = 2**20
"""Peers are told to send far smaller ones."""
BLOCK = 2**16


class Connection:
    """One peer's connection; takes the place of how pynetdicom reads from it.

    Args:
        association: pynetdicom's, whose connection has just opened.
    """

    def __init__(self, association: Any) -> None:
        self._transport = association.dul.socket
        self._left, self._end = ASKING_BYTES, time.monotonic() + ASKING_SECONDS
        self._transport.recv = self._receive
        abort_at_nonsense(association)

    def allow(self, count: int) -> None:
        """Allow another message of so many bytes; its time begins with its first one."""
        self._left, self._end = count, 0.0

    def _receive(self, size: int) -> bytearray:
        """Read so many bytes, or fewer at the end.

        Raises:
            OSError: If there are too many, or they do not come in time; the connection is closed.
        """
        self._left -= size
        if size > LARGEST_PDU or self._left < 0:
            self._transport.close()
            raise OSError("the peer sends too much")
        now = time.monotonic()
        self._end = (self._end or now + IDLE_SECONDS) + size / SLOWEST
        content, connection = bytearray(), self._transport.socket
        while len(content) < size:
            left = self._end - time.monotonic()
            if left <= 0:
                self._transport.close()
                raise OSError("the peer takes too long")
            connection.settimeout(left)
            block = connection.recv(min(size - len(content), BLOCK))
            if not block:
                break
            content += block
        connection.settimeout(IDLE_SECONDS)  # also for a peer that does not read our answers
        return content
