"""A DICOM peer that says what a test writes, byte by byte; and what such a peer may say."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from typing import Any

from pydicom import Dataset
from pynetdicom.dsutils import decode, encode
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ

DRIP_SECONDS = 0.2
C_STORE_ANSWER, C_ECHO_ANSWER = 0x8001, 0x8030
NO_DATA = 0x0101


class Wire:
    """One connection of a hostile peer.

    Args:
        connection: The socket.
        ended: Set when the test ends.
    """

    def __init__(self, connection: socket.socket, ended: threading.Event) -> None:
        self.connection, self.ended = connection, ended

    def send(self, data: bytes) -> None:
        """Send at once."""
        self.connection.sendall(data)

    def drip(self, data: bytes) -> None:
        """Send byte by byte, five a second."""
        for byte in data:
            if self.ended.wait(DRIP_SECONDS):
                return
            self.connection.sendall(bytes([byte]))

    def flood(self, data: bytes) -> None:
        """Send again and again, as fast as the other side reads."""
        while not self.ended.is_set():
            self.connection.sendall(data)

    def wait(self) -> None:
        """Say nothing until the other side leaves, or the test ends."""
        while not self.ended.is_set() and self.connection.recv(65536):
            pass

    def read_pdu(self) -> bytes:
        """Read one message of the upper layer; empty at the end."""
        head = self._read(6)
        return head + self._read(struct.unpack(">L", head[2:])[0]) if len(head) == 6 else b""

    def _read(self, size: int) -> bytes:
        content = b""
        while len(content) < size and (block := self.connection.recv(size - len(content))):
            content += block
        return content

    def read_http(self) -> bytes:
        """Read one HTTP request with its body; empty at the end."""
        request = b""
        while b"\r\n\r\n" not in request:
            block = self.connection.recv(65536)
            if not block:
                return b""
            request += block
        head, body = request.split(b"\r\n\r\n", maxsplit=1)
        lines = (line.partition(b":") for line in head.lower().splitlines())
        length = next((int(value) for name, _, value in lines if name == b"content-length"), 0)
        return request + self._read(length - len(body))

    def accept(self, *, syntax: str = "", most: int = 16382, result: int = 0) -> None:
        """Accept the association that is asked for; `syntax` instead of the proposed ones."""
        request = self.read_pdu()
        if request[:1] != b"\x01":
            raise ConnectionError("no A-ASSOCIATE-RQ")
        self.send(make_acceptance(request, syntax=syntax, most=most, result=result))

    def read_store(self) -> tuple[int, int, str]:
        """Read a C-STORE; return context, message number and SOP instance UID."""
        command, context, is_last_data = b"", 0, False
        while not is_last_data:
            pdu = self.read_pdu()
            if pdu[:1] != b"\x04":
                raise ConnectionError("no C-STORE")
            position = 6
            while position < len(pdu):
                length, context, control = struct.unpack(">LBB", pdu[position : position + 6])
                if control & 1:
                    command += pdu[position + 6 : position + 4 + length]
                is_last_data = control == 2
                position += 4 + length
        read = decode(BytesIO(command), True, True)
        return context, int(read.MessageID), str(read.AffectedSOPInstanceUID)


def make_acceptance(request: bytes, *, syntax: str, most: int, result: int) -> bytes:
    """The A-ASSOCIATE-AC for an A-ASSOCIATE-RQ."""
    asked = A_ASSOCIATE_RQ()
    asked.decode(request)
    primitive = asked.to_primitive()
    primitive.result = 0
    contexts = primitive.presentation_context_definition_list
    for context in contexts:
        context.result = result
        context.transfer_syntax = [syntax or context.transfer_syntax[0]]
    primitive.presentation_context_definition_results_list = contexts
    primitive.maximum_length_received = most
    answer = A_ASSOCIATE_AC()
    answer.from_primitive(primitive)
    return answer.encode()


def make_answer(context: int, **elements: Any) -> bytes:
    """A DIMSE answer without data, as one P-DATA-TF."""
    command = Dataset()
    for keyword, value in {"CommandDataSetType": NO_DATA, **elements}.items():
        setattr(command, keyword, value)
    body = encode(command, True, True) or b""
    group = struct.pack("<HHLL", 0, 0, 4, len(body))
    return make_data(context, group + body)


def make_data(context: int, content: bytes, control: int = 3) -> bytes:
    """A P-DATA-TF with one fragment; by default the last one of a command."""
    item = struct.pack(">LBB", len(content) + 2, context, control) + content
    return struct.pack(">BBL", 4, 0, len(item)) + item


@contextmanager
def hostile_peer(behave: Callable[[Wire], None]) -> Iterator[int]:
    """Listen on a loopback port, and treat every connection as `behave` says.

    Yields:
        The port.
    """
    ended = threading.Event()
    wires: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def serve(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            behave(Wire(connection, ended))

    def listen(server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                wires.append(connection)
                threads.append(threading.Thread(target=serve, args=[connection], daemon=True))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        listener = threading.Thread(target=listen, args=[server], daemon=True)
        listener.start()
        yield int(server.getsockname()[1])
        ended.set()
        server.shutdown(socket.SHUT_RDWR)
        listener.join()
    for wire in wires:
        with suppress(OSError):
            wire.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join()
