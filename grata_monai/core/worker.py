"""The program that the sandbox's subprocess runs, and the messages between both processes.

Run by its path, it imports nothing of grata_monai's packages but the one module that it is told
to load: `__init__.py` files are not run, so that torch and MONAI are not imported.

numpy is imported by whoever needs it: a function of bytes alone starts in a third of the time.

A message is one object of JSON and any number of arrays; no pickle, so that neither side can make
the other run code. On the wire: length of the JSON (8 bytes, big-endian), the JSON, the arrays'
bytes. The JSON's ``"arrays"`` tell name, type and shape of each array.
"""

import importlib
import importlib.util
import json
import math
import os
import sys
import types
from collections.abc import Iterator, Mapping
from io import BufferedIOBase
from typing import Any

__all__ = ["MessageError", "receive", "send"]

NUMBERS = "biuf"  # kinds of numpy types that may pass


class MessageError(ValueError):
    """The other side sent something that is no message, or a message above the limit."""


def send(stream: BufferedIOBase, values: Mapping[str, Any]) -> None:
    """Write one message.

    Args:
        stream: Where to.
        values: JSON values, and arrays of numbers under names of their own; bytes go as an array.

    Raises:
        TypeError: If a value is neither JSON nor an array of numbers.
    """
    numbers = sys.modules.get("numpy")  # who has not imported it has no array
    shapes, contents = [], []
    for name, value in values.items():
        if isinstance(value, bytes):
            shapes.append((name, "|u1", (len(value),)))
            contents.append(memoryview(value))
        elif numbers and isinstance(value, numbers.ndarray):
            if value.dtype.kind not in NUMBERS:
                raise TypeError(f"array {name!r} must hold numbers, got {value.dtype}. Convert it.")
            shapes.append((name, value.dtype.str, value.shape))
            flat = numbers.ascontiguousarray(value).reshape(-1)
            contents.append(flat.view(numbers.uint8).data)
    taken = {name for name, _, _ in shapes}
    plain = {name: value for name, value in values.items() if name not in taken}
    head = json.dumps({"values": plain, "arrays": shapes}).encode()
    stream.write(len(head).to_bytes(8, "big") + head)
    for content in contents:
        stream.write(content)
    stream.flush()


def receive(stream: BufferedIOBase, *, text_bytes: int, array_bytes: int) -> dict[str, Any]:
    """Read one message, and trust nothing in it.

    Args:
        stream: Where from.
        text_bytes: The most that its JSON may take.
        array_bytes: The most that its arrays may take together.

    Returns:
        What was sent.

    Raises:
        EOFError: If the stream has ended.
        MessageError: If it is no message, or above a limit.
    """
    size = int.from_bytes(_read(stream, 8), "big")
    if size > text_bytes:
        raise MessageError("text of a message is above its limit")
    try:
        head = json.loads(_read(stream, size))
        values, shapes = dict(head["values"]), [(n, t, tuple(s)) for n, t, s in head["arrays"]]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise MessageError("message is no JSON of ours") from error
    for name, kind, shape in shapes:
        array = _read_array(stream, kind, shape, array_bytes)
        array_bytes -= array.nbytes
        values[name] = array
    return values


def _read_array(stream: BufferedIOBase, kind: Any, shape: tuple[Any, ...], array_bytes: int) -> Any:
    import numpy as np  # noqa: PLC0415

    try:
        dtype = np.dtype(kind)
    except TypeError as error:
        raise MessageError("array has no type") from error
    is_shape = all(type(extent) is int and extent >= 0 for extent in shape)
    if dtype.kind not in NUMBERS or not is_shape:
        raise MessageError("array has no type or shape of ours")
    if math.prod(shape) * dtype.itemsize > array_bytes:
        raise MessageError("arrays of a message are above their limit")
    array = np.empty(math.prod(shape), dtype)
    _fill(stream, array.view(np.uint8).data)
    return array.reshape(shape)


def _read(stream: BufferedIOBase, size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise EOFError("the other side has gone")
    return content


def _fill(stream: BufferedIOBase, target: memoryview) -> None:
    while target:
        count = stream.readinto(target)
        if not count:
            raise EOFError("the other side has gone")
        target = target[count:]


class _Clock:
    """Processor time that is left for the next header or frame."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def restart(self) -> None:
        if sys.platform == "linux":
            import resource  # noqa: PLC0415

            usage = resource.getrusage(resource.RUSAGE_SELF)
            used = usage.ru_utime + usage.ru_stime
            hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
            _set_limit(resource.RLIMIT_CPU, math.ceil(used + self.seconds) + 1, hard)


def _set_limit(kind: int, soft: int, hard: int) -> None:
    """Set a limit, or the machine's own where that is lower."""
    import resource  # noqa: PLC0415

    is_free = hard == resource.RLIM_INFINITY
    resource.setrlimit(kind, (soft if is_free else min(soft, hard), hard))


def _confine(memory_bytes: int) -> None:
    """Limit memory; forbid to write files and to leave a core dump, which would hold pixels."""
    if sys.platform == "linux":
        import resource  # noqa: PLC0415

        for kind, value in (
            (resource.RLIMIT_AS, memory_bytes),
            (resource.RLIMIT_FSIZE, 0),
            (resource.RLIMIT_CORE, 0),
        ):
            hard = resource.getrlimit(kind)[1]
            limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (limit, limit))


def _load(setup: Mapping[str, Any]) -> Any:
    """Load the function; its packages become empty modules, so that no `__init__.py` runs."""
    sys.path[:] = setup["path"]
    for name, folders in setup["packages"].items():
        package = types.ModuleType(name)
        package.__path__ = folders
        sys.modules[name] = package
    spec = importlib.util.spec_from_file_location(setup["module"], setup["file"])
    if spec is None or spec.loader is None:
        raise ImportError("module has no loader")
    module = importlib.util.module_from_spec(spec)
    sys.modules[setup["module"]] = module
    spec.loader.exec_module(module)
    return getattr(module, setup["function"])


def _answer(
    function: Any, request: Mapping[str, Any], clock: _Clock, stream: BufferedIOBase
) -> None:
    """Send what the function returns, or one part after the other if it is a generator."""
    try:
        clock.restart()
        result = function(request)
        parts = result if isinstance(result, Iterator) else iter([result])
        for part in parts:
            send(stream, {"kind": "part", **part})
            clock.restart()
        last = {"kind": "end"}
    except Exception as error:
        last = _describe(error)
    send(stream, last)


def _describe(error: Exception) -> dict[str, str]:
    """Tell what failed. Only our own errors' text may leave: others quote elements' values."""
    reason = getattr(error, "reason", "")
    kind = type(error)
    if kind.__module__ == "grata_monai.core.errors":
        own = {"reason": reason if isinstance(reason, str) else "", "message": str(error)[:2000]}
        return {"kind": "rejection", "type": kind.__name__, **own}
    if isinstance(error, MemoryError):
        return {"kind": "memory"}
    return {"kind": "error", "type": kind.__name__}


def _main() -> None:
    """Answer requests until the other side closes the stream."""
    source = os.fdopen(os.dup(0), "rb")
    target = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # nothing that a library prints gets out
        os.dup2(nowhere, descriptor)
    setup = json.loads(_read(source, int.from_bytes(_read(source, 8), "big")))
    _confine(setup["memory_bytes"])
    try:
        function = _load(setup)
    except Exception as error:
        send(target, {"kind": "error", "type": f"{type(error).__name__}: {error}"[:500]})
        return
    send(target, {"kind": "ready"})
    clock = _Clock(setup["seconds"])
    while True:
        try:
            request = receive(source, text_bytes=2**30, array_bytes=2**40)
        except EOFError:
            return
        _answer(function, request, clock, target)


if __name__ == "__main__":
    _main()
