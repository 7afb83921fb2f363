"""Run our own functions on untrusted bytes in a subprocess with little memory and time.

Decisions:

- A fresh interpreter, not a fork: a fork of a process with threads (torch has them) may hang, and
  a hostile file would meet all the parent's memory.
- No pickle between the two: a subprocess that hostile bytes have taken over can send false
  values, but no code.
- The subprocess does not import torch or MONAI: it starts in the time that numpy or pydicom takes.
- What a library prints or warns there is discarded: it may quote elements' values.
"""

import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from io import BufferedIOBase
from pathlib import Path
from time import monotonic
from typing import Any, cast

from grata_monai.core import errors, worker
from grata_monai.core.errors import CaseError, DicomError
from grata_monai.core.limits import Limits

__all__ = ["SandboxError", "keep_spares", "run_each", "run_parts", "run_sandboxed"]

Values = dict[str, Any]
Function = Callable[[Values], Any]

STARTING_SECONDS = 120.0  # for imports, which depend on the machine and not on the file
KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMPDIR")
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
TIME_SIGNAL = -int(getattr(signal, "SIGXCPU", 0)) or None  # as an exit code; not on Windows
KILL_SIGNAL = -int(getattr(signal, "SIGKILL", 0)) or None
MOST_SPARES = 4


class SandboxError(Exception):
    """A call has no result; whoever asked for it turns this into a refusal of their own.

    Attributes:
        is_over_limit: Whether it went beyond its limits; then the message says what to do. Else
            the message is a clause that says what happened, such as ``a file is not (ValueError)``.
    """

    def __init__(self, message: str, *, is_over_limit: bool = False) -> None:
        super().__init__(message)
        self.is_over_limit = is_over_limit


def run_sandboxed(
    function: Function, values: Mapping[str, Any], *, limits: Limits, subject: str = "a file"
) -> Values:
    """Call one function once in a subprocess of its own.

    Args:
        function: Of a module's top level, in an importable file of ours whose imports are light.
            Takes one dictionary, returns one; both hold JSON values and arrays of numbers, under
            names of which ``kind`` is taken. To refuse, it raises a `CaseError`.
        values: What it gets. Paths as text.
        limits: Memory (Linux), processor time (Linux) and wall-clock time of the call. Other
            systems have the limit of wall-clock time only.
        subject: What to call the file in an error; no path, no identifier.

    Returns:
        What it returned.

    Raises:
        CaseError: The function's own.
        SandboxError: If it went beyond its limits, or failed otherwise.
        RuntimeError: If the function's module cannot be loaded in the subprocess.
    """
    with _started(function, limits) as child:
        parts = list(child.ask(values, subject=subject))
    return parts[0] if parts else {}


def run_parts(
    function: Function, values: Mapping[str, Any], *, limits: Limits, subject: str = "a file"
) -> Generator[Values, None, None]:
    """Call a generator function in a subprocess, and pass on what it yields as it comes.

    Arguments and errors are those of `run_sandboxed`; `seconds` holds for each part, `case_seconds`
    for all of them together.

    Yields:
        What the function yields.
    """
    with _started(function, limits) as child:
        child.end = monotonic() + limits.case_seconds
        yield from child.ask(values, subject=subject)


def run_each(
    function: Function,
    items: Iterable[Mapping[str, Any]],
    *,
    limits: Limits,
    is_ahead: bool = False,
) -> Generator[Values | CaseError | SandboxError, None, None]:
    """Call a function for many items, in one subprocess as long as it lives.

    An item that kills the subprocess gets its error, and a new subprocess goes on with the rest.

    Args:
        function: As for `run_sandboxed`.
        items: What it gets, one after the other.
        limits: Of each call; memory is that of the subprocess.
        is_ahead: Send the next item before the last answer has come; then items must be small, as
            paths are, and must not depend on answers.

    Yields:
        For each item what the function returned, or why it has no result.

    Raises:
        RuntimeError: If the function's module cannot be loaded in the subprocess.
    """
    child, is_sent, number = None, False, 0
    rest = iter(items)
    values = next(rest, None)
    try:
        while values is not None:
            number += 1
            if child is None or not child.is_alive:
                child, is_sent = _start(function, limits), False
            following = next(rest, None) if is_ahead else None
            sent = [v for v in (None if is_sent else values, following) if v is not None]
            is_sent = following is not None
            try:
                parts = list(child.ask(*sent, subject=f"item {number}"))
            except (CaseError, SandboxError) as error:
                yield error
            else:
                yield parts[0] if parts else {}
            values = following if is_ahead else next(rest, None)
    finally:
        if child is not None:
            child.close()


def keep_spares() -> None:
    """From now on start the next subprocess before it is asked for.

    For a process that decodes one case after the other all day: starting Python and its imports
    takes longer than decoding a small series. Each case still has a subprocess of its own.
    """
    _Spares.kept = _Spares()


@contextmanager
def _started(function: Function, limits: Limits) -> Iterator["_Child"]:
    child = _start(function, limits)
    try:
        yield child
    finally:
        child.close()


def _start(function: Function, limits: Limits) -> "_Child":
    """Start a subprocess, or take the spare one."""
    return _Spares.kept.take(function, limits) if _Spares.kept else _Child(function, limits)


class _Child:
    """One subprocess that answers requests until it dies or is closed."""

    def __init__(self, function: Function, limits: Limits) -> None:
        self.limits, self.is_alive = limits, True
        self.late = ""  # the limit of time that was broken
        self._deadline = (math.inf, "")  # of the message that is waited for, and its limit
        self._is_closed = threading.Event()
        self.end = math.inf  # when the case must be done
        environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        self.process = subprocess.Popen(
            # isolated, without .pyc files: neither the environment nor the folder is asked for code
            [sys.executable, "-I", "-B", worker.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**environment, **dict.fromkeys(ONE_THREAD, "1")},
        )
        threading.Thread(target=self._watch, daemon=True).start()
        try:
            self._start(_describe_setup(function, limits))
        except BaseException:
            self.close()
            raise

    def ask(self, *requests: Mapping[str, Any], subject: str) -> Generator[Values, None, None]:
        """Send requests and pass on the parts of the next answer; after an error see `is_alive`."""
        is_answered = False
        try:
            for values in requests:
                worker.send(self._stdin, values)
            last = self._receive()
            while last.get("kind") == "part":
                yield {name: value for name, value in last.items() if name != "kind"}
                last = self._receive()
            is_answered = True
        except (EOFError, OSError, worker.MessageError) as error:
            raise self._explain_death(subject, error) from error
        finally:
            if not is_answered:  # nothing else can be asked in the middle of an answer
                self.close()
        if last.get("kind") != "end":
            raise self._explain(last, subject)

    def close(self) -> None:
        """End the subprocess; it holds nothing that must be saved."""
        self.is_alive = False
        self._is_closed.set()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self._stdin, self._stdout):
            with suppress(OSError):  # a request may still wait to be flushed
                stream.close()

    @property
    def _stdin(self) -> BufferedIOBase:
        return cast("BufferedIOBase", self.process.stdin)

    @property
    def _stdout(self) -> BufferedIOBase:
        return cast("BufferedIOBase", self.process.stdout)

    def _start(self, setup: Values) -> None:
        content = json.dumps(setup).encode()
        with suppress(OSError):  # it died at once: reading says so
            self._stdin.write(len(content).to_bytes(8, "big") + content)
            self._stdin.flush()
        try:
            state = self._receive(STARTING_SECONDS)
        except (EOFError, OSError, worker.MessageError) as error:
            state = {"type": type(error).__name__}
        if state.get("kind") != "ready":
            raise RuntimeError(
                f"sandbox must be able to load {setup['module']}, it failed with "
                f"{state.get('type')}. Install what the module imports (pip install "
                "grata-monai), or raise memory_bytes."
            )

    def _receive(self, seconds: float = 0.0) -> Values:
        """Wait for one message; kill the subprocess if it does not come in time."""
        allowed, left = seconds or self.limits.seconds, self.end - monotonic()
        late = f"{allowed:g} s" if allowed <= left else f"{self.limits.case_seconds:g} s in all"
        self._deadline = (monotonic() + max(min(allowed, left), 0), late)
        try:
            return worker.receive(
                self._stdout,
                text_bytes=self.limits.header_bytes,
                array_bytes=self.limits.pixel_budget_bytes,
            )
        finally:
            self._deadline = (math.inf, "")

    def _watch(self) -> None:
        """Kill the subprocess when a message is late; one thread looks after all messages."""
        pace = min(self.limits.seconds, self.limits.case_seconds, 10.0) / 10
        while not self._is_closed.wait(pace):
            moment, limit = self._deadline
            if monotonic() > moment:
                self.late = limit
                self.process.kill()
                return

    def _explain_death(self, subject: str, error: Exception) -> SandboxError:
        """Say why the subprocess ended, or what was wrong with its answer."""
        if isinstance(error, worker.MessageError):
            return _over_limit(f"answer within the limits, {subject} gives another answer")
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=5)  # its streams end a moment before it does
        code = self.process.poll()
        if self.late or (code is not None and code == TIME_SIGNAL):
            limit = self.late or f"{self.limits.seconds:g} s"
            return _over_limit(f"take at most {limit}, {subject} took longer")
        if code is not None and code == KILL_SIGNAL:
            return _over_limit(f"fit into memory, the system stopped it on {subject}")
        return SandboxError(f"{subject} ends the decoder (exit code {code})")

    def _explain(self, last: Values, subject: str) -> CaseError | SandboxError:
        """Make the error that a living subprocess reports."""
        if last.get("kind") == "memory":
            return _over_limit(
                f"take at most {self.limits.memory_bytes} bytes of memory, {subject} needs more"
            )
        kind: object = getattr(errors, str(last.get("type")), None)
        if last.get("kind") != "rejection":
            kind = None
        if isinstance(kind, type) and issubclass(kind, CaseError):
            message = str(last.get("message"))
            if issubclass(kind, DicomError):
                return kind(message, reason=str(last.get("reason")))
            return kind(message)
        return SandboxError(f"{subject} is not ({last.get('type')})")


class _Spares:
    """Subprocesses that were started in advance: the last of each kind that was asked for."""

    kept: "_Spares | None" = None

    def __init__(self) -> None:
        self._starter = ThreadPoolExecutor(max_workers=1)
        self._started: dict[tuple[Function, Limits], Future[_Child]] = {}
        self._lock = threading.Lock()

    def take(self, function: Function, limits: Limits) -> _Child:
        """Give away the spare one, or one started now, and have the next one started."""
        key = (function, limits)
        with self._lock:
            future = self._started.pop(key, None)
            if len(self._started) >= MOST_SPARES:
                self._starter.submit(_close, self._started.pop(next(iter(self._started))))
            self._started[key] = self._starter.submit(_Child, function, limits)
        if future is not None and not future.exception():
            if future.result().process.poll() is None:
                return future.result()
            future.result().close()  # the system killed it
        return _Child(function, limits)


def _close(future: Future[_Child]) -> None:
    if not future.exception():
        future.result().close()


def _over_limit(rule: str) -> SandboxError:
    remedy = "Leave it out, or raise the limits if you trust where it comes from."
    return SandboxError(f"decoding must {rule}. {remedy}", is_over_limit=True)


def _describe_setup(function: Function, limits: Limits) -> Values:
    """Say where the function is, and that its packages' `__init__.py` shall not run."""
    module = sys.modules[function.__module__]
    parents = function.__module__.split(".")[:-1]
    names = [".".join(parents[: i + 1]) for i in range(len(parents))]
    packages = {name: list(sys.modules[name].__path__) for name in names if name in sys.modules}
    return {
        "path": [str(Path(folder).resolve()) for folder in sys.path if folder],
        "packages": packages,
        "module": function.__module__,
        "file": module.__file__,
        "function": function.__name__,
        "memory_bytes": limits.memory_bytes,
        "seconds": limits.seconds,
    }
