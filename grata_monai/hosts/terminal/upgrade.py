"""Segment kept cases again after an upgrade, and say which masks changed, and by how much."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grata_monai.hosts.shell import EXIT_NOT_ALL, EXIT_OK
from grata_monai.hosts.terminal.command import add_how_options, read_asked

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


def _overlap(before: Path, one: Any, after: Path, two: Any) -> str:
    """Dice of two NIfTI masks; empty for DICOM objects, whose voxel counts say enough."""
    import nibabel as nib  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    if "output" not in one or "output" not in two:
        return ""
    pairs = (before, one), (after, two)
    masks = [
        np.asarray(nib.Nifti1Image.from_filename(path.parent / record["output"]["file"]).dataobj)
        for path, record in pairs
    ]
    if masks[0].shape != masks[1].shape:
        return ", on another grid"
    total = np.count_nonzero(masks[0]) + np.count_nonzero(masks[1])
    both = np.count_nonzero((masks[0] == masks[1]) & (masks[0] > 0))
    return f", Dice {2 * both / total:.3f}" if total else ", labels only"
