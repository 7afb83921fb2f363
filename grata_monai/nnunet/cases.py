"""List, check and read cases by nnU-Net's file names: ``<case>_0000.nii.gz``, one per channel."""

import contextlib
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grata_monai.core.errors import (
    ChannelError,
    DatasetError,
    GeometryError,
    IntensityError,
    UnreadableImageError,
)
from grata_monai.core.limits import MEBIBYTE, Limits
from grata_monai.read.cases import EXTENSIONS
from grata_monai.read.decode import check_stored

__all__ = [
    "check_files",
    "check_voxels",
    "list_cases",
    "pair_cases",
    "read_voxels",
    "refuse_nothing",
]

LIMITS = Limits(pixel_budget_bytes=8192 * MEBIBYTE, seconds=300.0)
"""What a file may cost before nnU-Net's reader opens it: whole bodies in CT."""
CHANNEL = re.compile(r"(?P<case>.+)_(?P<number>\d{4})")


def list_cases(path: Path, ending: str) -> list[dict[str, Any]]:
    """List the cases of a folder, complete or not.

    Args:
        path: A folder, or one file.
        ending: How names of images end.

    Returns:
        By name: ``case``, and ``images``, the paths of its files in the order of their channels. A
        file without a channel's number is a case of its own.
    """
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    found: dict[str, dict[int, Path]] = {}
    for file in files:
        if not file.name.endswith(ending) or file.name.startswith("."):
            continue
        stem = file.name.removesuffix(ending)
        match = CHANNEL.fullmatch(stem)
        name, number = (match["case"], int(match["number"])) if match else (stem, -1)
        found.setdefault(name, {})[number] = file
    return [
        {"case": name, "images": [str(parts[number]) for number in sorted(parts)]}
        for name, parts in sorted(found.items())
    ]


def pair_cases(images: Path, labels: Path | None, ending: str) -> list[dict[str, str]]:
    """List cases as experiments take them, with labels by nnU-Net's names: ``<case>`` alone.

    Args:
        images: A folder of them, such as ``imagesTr``.
        labels: A folder of labels, such as ``labelsTr``; None for cases without.
        ending: How names of both end.

    Returns:
        By name: ``case``, ``centre`` (empty), ``image``, ``image_0001`` and so on for further
        channels, and ``label``; absolute paths.

    Raises:
        DatasetError: If there is no image, or a label is missing.
    """
    found = list_cases(images, ending) if images.exists() else []
    if not found:
        refuse_nothing(images, ending)
    paired = []
    for case in found:
        first, *others = (str(Path(path).absolute()) for path in case["images"])
        paired.append({"case": case["case"], "centre": "", "image": first})
        paired[-1] |= {f"image_{number:04d}": path for number, path in enumerate(others, 1)}
        if labels is not None:
            label = labels / f"{case['case']}{ending}"
            if not label.is_file():
                raise DatasetError(
                    f"every case must have a label, {label.name!r} is missing. "
                    "Add it, or leave the image out."
                )
            paired[-1]["label"] = str(label.absolute())
    return paired


def refuse_nothing(path: Path, ending: str) -> None:
    """Explain that a path holds no image that the network reads.

    Raises:
        DatasetError: Always.
    """
    if not path.exists():
        raise DatasetError(f"images must exist, {path.name!r} does not. Check the path.")
    files = path.iterdir() if path.is_dir() else [path]
    others = {
        next(end for end in EXTENSIONS if file.name.lower().endswith(end))
        for file in files
        if file.name.lower().endswith(tuple(EXTENSIONS))
    }
    hint = f" It holds {', '.join(sorted(others))}: convert them." if others else ""
    raise DatasetError(
        f"images must be named <case>_0000{ending}, one for each channel, {path.name!r} holds none."
        f"{hint}"
    )


def check_files(files: Sequence[str], ending: str, channels: Mapping[int, str]) -> None:
    """Refuse a case that has not one file for each channel.

    A network of one channel also takes a file without a channel's number.

    Args:
        files: Of the case.
        ending: How their names end.
        channels: That the network takes: number to name.

    Raises:
        ChannelError: Naming what is missing or too many.
    """
    numbers = [_channel(file, ending) for file in files]
    if numbers == sorted(channels) or (numbers == [-1] and len(channels) == 1):
        return
    wanted = ", ".join(f"_{number:04d} ({name})" for number, name in sorted(channels.items()))
    got = ", ".join("a name without number" if n < 0 else f"_{n:04d}" for n in numbers)
    raise ChannelError(
        f"a case must have one file for each channel of the network, {wanted}; got {got}. "
        f"Name files <case>_0000{ending}, <case>_0001{ending}, …"
    )


def _channel(file: str, ending: str) -> int:
    match = CHANNEL.fullmatch(Path(file).name.removesuffix(ending))
    return int(match["number"]) if match else -1


def read_voxels(reader: Any, files: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """Read a case with nnU-Net's own reader, once its files have been looked through with limits.

    Args:
        reader: One of nnU-Net's.
        files: Of the case.

    Returns:
        float32 (c, z, y, x), and what the reader keeps to write a mask.

    Raises:
        UnreadableImageError: If it cannot, or a file is beyond its limits.
        GeometryError: If its files do not lie on one grid.
        CaseError: What `check_stored` says of a file.
    """
    for file in files:
        if file.lower().endswith(EXTENSIONS):
            check_stored(Path(file), limits=LIMITS)
    names = ", ".join(repr(Path(file).name) for file in files)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints paths of what it does not like
            voxels, properties = reader.read_images(files)
    except Exception as error:  # whatever a reader makes of a damaged file
        if len(files) > 1 and not str(error):
            raise GeometryError(
                f"files of a case must have one shape and spacing, {names} have not. "
                "Resample them to the grid of one."
            ) from error
        raise UnreadableImageError(
            f"an image must be readable by nnU-Net's {type(reader).__name__}, {names} is not "
            f"({type(error).__name__}). Export it again."
        ) from error
    return voxels, properties


def check_voxels(voxels: Any, channels: int) -> None:
    """Refuse voxels from which nnU-Net would make an empty or senseless mask, in silence.

    Args:
        voxels: (c, z, y, x).
        channels: That the network takes.

    Raises:
        ChannelError: If there are others.
        IntensityError: If one is not finite, or all are equal.
    """
    if voxels.shape[0] != channels:
        raise ChannelError(
            f"an image must have {channels} channel(s), got {voxels.shape[0]}. "
            "Split time points and contrasts into files of their own."
        )
    low, high = float(voxels.min()), float(voxels.max())
    if not (low > float("-inf") and high < float("inf")):  # also false for NaN
        raise IntensityError("voxels must be finite, got NaN or infinity. Export the image again.")
    if low == high:
        raise IntensityError(f"voxels must differ, all are {low:g}. Check the export.")
