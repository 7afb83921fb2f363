"""Kill a process at a chosen system call that writes, or in the middle of writing a file.

The process is a fork of this one, and the kill is a SIGKILL: nothing tidies up behind it.
"""

import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any

_EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def kill_at_call(number: int, work: Callable[[], Any]) -> bool:
    """Run something in a fork that dies before its call `number` that writes, counted from 1.

    Returns:
        Whether it died; False if it came to its end before that call.
    """
    return _fork(work, lambda: _die_at_call(number))


def kill_at_byte(size: int, work: Callable[[], Any]) -> bool:
    """Run something in a fork that dies when one of its files grows beyond so many bytes."""
    return _fork(work, lambda: _die_at_byte(size))


def fork_until_done(
    kill: Callable[[int, Callable[[], Any]], bool],
    work: Callable[[], Any],
    points: Iterable[int],
    *,
    check: Callable[[], Any],
    before: Callable[[], Any],
) -> int:
    """Kill at one point after the other, each time from the state that `before` makes.

    Returns:
        How often it died before it came to its end.
    """
    killed = 0
    for point in points:
        before()
        is_killed = kill(point, work)
        killed += is_killed
        check()
        if not is_killed:
            return killed
    raise AssertionError("the work never came to its end")


def _fork(work: Callable[[], Any], prepare: Callable[[], None]) -> bool:
    child = os.fork()
    if child == 0:
        try:
            prepare()
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the fork raised an exception"
    return os.WIFSIGNALED(status)


def _die_at_call(number: int) -> None:
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _EVENTS or (event == "open" and arguments[2] & _WRITES):
            count()

    fsync = os.fsync

    def count_and_fsync(descriptor: Any) -> None:
        count()
        fsync(descriptor)

    os.fsync = count_and_fsync  # type: ignore[assignment]  # has no audit event
    sys.addaudithook(watch)


def _die_at_byte(size: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
