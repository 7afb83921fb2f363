"""Write a file or a folder whole or not at all: temporary name beside it, fsync, rename."""

import errno
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fire.parser import DefaultParseValue

from grata_monai.core.errors import OutputError
from grata_monai.core.working import OLD, PREFIX, working_folder

__all__ = [
    "UNFINISHED",
    "Typed",
    "as_path",
    "as_text",
    "atomic_folder",
    "atomic_path",
    "ensure_writable",
    "flush",
    "flush_folder",
    "is_unfinished",
    "refuse_as_output",
    "temporary_name",
]

Typed = str | os.PathLike[str] | int | float | tuple[Any, ...]
"""A text or path, or what a command line makes of one."""

UNFINISHED = ".grata-"
"""How the names of files and folders begin that a run has not finished."""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Lend a temporary path that becomes `path` when the block ends without an exception.

    The temporary file has the same name, in a hidden folder beside it. After an exception it is
    gone and `path` is untouched; what a killed process left goes when a file beside it is next
    written.

    Args:
        path: The file to make or to replace; its folder must exist.

    Yields:
        Where to write. Permissions follow the umask, as for any new file.

    Raises:
        OutputError: If the file system refuses, or nothing was written.
    """
    target = Path(path)
    with refuse_as_output(target.name), working_folder(target.parent) as work:
        temporary = work / target.name
        yield temporary
        flush(temporary)
        os.replace(temporary, target)
        flush_folder(target.parent)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Lend a temporary folder that becomes `path` when the block ends without an exception.

    A folder that `path` names already is replaced as a whole, and so is a link. After an exception
    the temporary folder is gone and `path` is untouched. What a killed process left goes when a
    folder beside it is next written; a folder that it had moved away comes back.

    Args:
        path: The folder to make or to replace; its parent must exist.

    Yields:
        Where to write files and folders.

    Raises:
        OutputError: If the file system refuses.
    """
    target = Path(path)
    with refuse_as_output(target.name), working_folder(target.parent) as work:
        if target.exists() and not target.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        (work / OLD).mkdir()
        temporary = work / "new"
        temporary.mkdir()
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                flush(file)
        if target.exists() or target.is_symlink():
            os.replace(target, work / OLD / target.name)
        os.replace(temporary, target)
        flush_folder(target.parent)


def ensure_writable(folder: Typed) -> Path:
    """Make a folder if it is missing, and prove that a file can be written there.

    What a killed process left there of single files and folders is put right.

    Args:
        folder: The folder.

    Returns:
        The folder.

    Raises:
        OutputError: If it cannot be made or written.
    """
    target = as_path(folder, name="output_dir")
    try:
        target.mkdir(parents=True, exist_ok=True)
        with working_folder(target) as work:
            (work / "probe").write_bytes(b"")
    except OSError as error:
        raise OutputError(
            f"output folder must be writable, {target.name!r} is not: {error.strerror or error}. "
            "Correct its permissions, or choose another output folder."
        ) from error
    return target


def as_text(value: Typed, *, name: str) -> str:
    """Undo what a command line does to a text: ``2025`` comes as a number, ``a,b`` as a tuple.

    What was typed itself is taken if it is on the command line of this process: ``2025_11`` comes
    as 202511.

    Args:
        value: As it came; a text or path passes through.
        name: Of the setting, for an error.

    Returns:
        What was typed.

    Raises:
        ValueError: If that cannot be told any more, as with ``2025.10``, which comes as 2025.1.

    >>> as_text(("north", 2), name="dataset_dir")
    'north,2'
    """
    if isinstance(value, str | os.PathLike):
        return os.fspath(value)
    if (typed := _find_typed(value, name)) is not None:
        return typed
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, tuple):
        return ",".join(as_text(part, name=name) for part in value)
    raise ValueError(
        f"{name} must be a text, got {value!r}. Put quotes inside the quotes of the command line, "
        f"as in --{name} '\"2025.10\"', or begin a path with ./"
    )


def _find_typed(value: object, name: str) -> str | None:
    """Find the text of which `fire` made this value, as ``--name VALUE`` or ``--name=VALUE``."""
    for option, following in zip(sys.argv, [*sys.argv[1:], ""], strict=True):
        given, sign, text = option.partition("=")
        text = text if sign else following
        if given == f"--{name}" and DefaultParseValue(text) == value:
            return text
    return None


def as_path(value: Typed, *, name: str) -> Path:
    """Make a path of what a command line made of it: `as_text`."""
    return Path(as_text(value, name=name))


@contextmanager
def refuse_as_output(name: str) -> Iterator[None]:
    """Turn what the file system refuses in this block into an `OutputError` about an output."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"output must be writable, {name!r} is not: {error.strerror or error}. "
            "Free space, correct the permissions, or choose another output folder."
        ) from error


def temporary_name() -> str:
    """Make a name that no other file has; what bears it after its run has ended is rubbish."""
    return f"{UNFINISHED}{secrets.token_hex(8)}"


def is_unfinished(name: str) -> bool:
    """Whether a file or folder of this name is what a run has not finished, or never will."""
    return name.startswith((UNFINISHED, PREFIX))


def flush(path: Path) -> None:
    """Bring what was written to a file onto the disk."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Make the rename itself last; not every file system can, and the file is complete anyway."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
