"""What workers of the tests do, in a module that they can import."""

import os
from pathlib import Path


def kill_once(folder: Path, part: int) -> int:
    """End the process of the part 1, as the system does, but the first time only."""
    mark = folder / f"began-{part}"
    is_new = not mark.exists()
    mark.touch()
    if part == 1 and is_new:
        os._exit(9)
    return part * part


def fail(tool: object, part: int) -> int:
    """Refuse every part."""
    raise KeyError(part)


def same(folder: Path, number: int) -> Path:
    """Give every worker the same tool."""
    return folder


def refuse(number: int) -> object:
    """Open nothing."""
    raise ValueError("nothing can be opened")
