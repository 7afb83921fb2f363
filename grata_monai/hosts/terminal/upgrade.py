"""Segment kept cases again after an upgrade, and say which masks changed, and by how much."""

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grata_monai.hosts.shell import EXIT_NOT_ALL, EXIT_OK
from grata_monai.hosts.terminal.command import add_how_options, read_asked

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["add_check_upgrade_options", "compare_results", "run_check_upgrade"]


def add_check_upgrade_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``check-upgrade`` to its parser."""
    parser.add_argument("old", type=Path, metavar="OLD", help="what `segment` wrote before")
    parser.add_argument("out", type=Path, metavar="NEW", help="folder for what it writes now")
    parser.add_argument("path", type=Path, metavar="CASES", help="the kept cases, IN of `segment`")
    add_how_options(parser)


def run_check_upgrade(arguments: argparse.Namespace) -> tuple[str, int]:
    """Segment the kept cases, and compare every mask with the old one.

    Args:
        arguments: With the options of `add_check_upgrade_options`.

    Returns:
        A line per case, and the exit status: 1 unless every mask is the same.

    Raises:
        GrataError: If nothing can be segmented at all.
        ValueError: If an option is wrong, or OLD holds no results.
    """
    from grata_monai.hosts.terminal.run import segment_all  # noqa: PLC0415

    if not _list_records(arguments.old):
        raise ValueError(
            f"OLD must hold records that `segment` wrote, {arguments.old.name!r} holds none. "
            "Segment the kept cases with the old version first."
        )
    if arguments.out.resolve() == arguments.old.resolve():
        raise ValueError(
            "NEW must be another folder than OLD, it is the same: the old masks would be lost. "
            "Choose another NEW."
        )
    segment_all(read_asked(arguments))
    changes = compare_results(arguments.old, arguments.out)
    lines = [f"{case}: {change}" for case, change in changes.items()]
    same = sum(change == "same" for change in changes.values())
    told = f"{same} of {len(changes)} masks are the same"
    return "\n".join([*lines, told]), EXIT_OK if same == len(changes) else EXIT_NOT_ALL


def compare_results(old: Path, new: Path) -> dict[str, str]:
    """Compare the masks of two folders of results.

    Args:
        old: Written before.
        new: Written now.

    Returns:
        Every case of either, and ``same``, or what changed.
    """
    before, after = _list_records(old), _list_records(new)
    return {case: _compare(before.get(case), after.get(case)) for case in sorted({*before, *after})}


def _list_records(folder: Path) -> dict[str, Path]:
    """Records of images and of DICOM series, by the name of the case."""
    ending = "_record.json"
    found = {path.name.removesuffix(ending): path for path in folder.glob(f"*{ending}")}
    return found | {path.parent.name: path for path in folder.glob("*/record.json")}


def _compare(before: Path | None, after: Path | None) -> str:
    if before is None or after is None:
        return "there is no mask now" if after is None else "there was no mask before"
    one, two = (json.loads(path.read_text(encoding="utf-8")) for path in (before, after))
    if _digest(one) == _digest(two):
        return "same"
    counts = " → ".join(str(record["change"]["final_voxels"]) for record in (one, two))
    outcomes = " → ".join(record["outcome"] for record in (one, two))
    return f"changed{_overlap(before, one, after, two)}; voxels {counts}, outcome {outcomes}"


def _digest(record: Mapping[str, Any]) -> str:
    """Of the mask's voxels."""
    return str(record["output"]["sha256"] if "output" in record else record["dicom"]["mask_sha256"])


def _overlap(before: Path, one: Mapping[str, Any], after: Path, two: Mapping[str, Any]) -> str:
    """Dice of two masks, each label with itself."""
    old, new = _read_parts(before, one), _read_parts(after, two)
    every = [*old.values(), *new.values()]
    if len({part.shape for part in every}) > 1:
        return ", on another grid"
    total = sum(int(part.sum()) for part in every)
    both = sum(int((old[key] & new[key]).sum()) for key in old.keys() & new.keys())
    return f", Dice {2 * both / total:.3f}" if total else ""


def _read_parts(
    path: Path, record: Mapping[str, Any]
) -> "dict[tuple[int, str], NDArray[np.bool_]]":
    """Where a mask has each of its labels; in a DICOM object frame by frame, by their places."""
    import numpy as np  # noqa: PLC0415

    planes = _read_nifti(path, record) if "output" in record else _read_dicom(path)
    return {
        (int(label), place): plane == label
        for place, plane in planes
        for label in np.unique(plane[plane > 0])
    }


def _read_nifti(path: Path, record: Mapping[str, Any]) -> "Iterator[tuple[str, NDArray[Any]]]":
    import nibabel as nib  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    image = nib.Nifti1Image.from_filename(path.parent / record["output"]["file"])
    yield "", np.asarray(image.dataobj)


def _read_dicom(path: Path) -> "Iterator[tuple[str, NDArray[Any]]]":
    from pydicom import dcmread  # noqa: PLC0415  # an extra

    from grata_monai.read.outputs import SEGMENTATION  # noqa: PLC0415

    made = dcmread(path.with_name(SEGMENTATION))
    frames = made.pixel_array.reshape(-1, made.Rows, made.Columns)
    half = made.get("MaximumFractionalValue", 1) / 2
    for group, frame in zip(made.PerFrameFunctionalGroupsSequence, frames, strict=True):
        place = str(group.PlanePositionSequence[0].ImagePositionPatient)
        named = group.get("SegmentIdentificationSequence")  # a label map's frame has all labels
        number = named[0].ReferencedSegmentNumber if named else 0
        yield place, (frame > half) * number if number else frame
