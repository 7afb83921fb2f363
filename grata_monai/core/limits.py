"""What untrusted files may cost: memory, time, size; checked when built."""

from dataclasses import dataclass, fields

__all__ = ["CASE_SECONDS", "Limits"]

MEBIBYTE = 2**20
CASE_SECONDS = 3600
"""What one case may take if nobody says otherwise."""
SMALLEST_MEMORY = 256 * MEBIBYTE  # Python, numpy and pydicom alone take about 150 MiB of addresses


@dataclass(frozen=True)
class Limits:
    """What one image, and the subprocess that parses or decodes it, may cost.

    Attributes:
        pixel_budget_bytes: Voxels of one image as float32, and pixels of one file as its header
            claims them.
        memory_bytes: Address space of the subprocess; at least 256 MiB. Enforced on Linux only.
        seconds: For one header, one frame or one file that is no DICOM, above 0: of processor time
            (Linux), and of wall-clock time (everywhere).
        header_bytes: Of a file before its pixels, and of what a subprocess may say about one file.
        case_seconds: For all files and frames of one case together, above 0; the reading is stopped
            then. What is left of it is the inferer's.

    Raises:
        TypeError: If a limit is no number, or not whole where it counts bytes.
        ValueError: If a limit is not above 0, or `memory_bytes` below what Python itself takes.
    """

    pixel_budget_bytes: int = 2048 * MEBIBYTE
    memory_bytes: int = 2048 * MEBIBYTE
    seconds: int | float = 30.0
    header_bytes: int = 64 * MEBIBYTE
    case_seconds: int | float = CASE_SECONDS

    def __post_init__(self) -> None:
        for field in fields(self):
            _check_limit(field.name, getattr(self, field.name))
        if self.memory_bytes < SMALLEST_MEMORY:
            raise ValueError(
                f"memory_bytes must be at least {SMALLEST_MEMORY}, got {self.memory_bytes}. "
                "The subprocess needs as much before it has read anything."
            )


def _check_limit(name: str, value: object) -> None:
    is_time = name.endswith("seconds")
    is_number = isinstance(value, int) or (is_time and isinstance(value, float))
    if not is_number or isinstance(value, bool):
        raise TypeError(
            f"{name} must be a {'number' if is_time else 'whole number'}, "
            f"got {value!r}. Leave it out for its default."
        )
    if not 0 < value < float("inf"):  # type: ignore[operator]
        raise ValueError(
            f"{name} must be finite and above 0, got {value!r}. Leave it out for its default."
        )
