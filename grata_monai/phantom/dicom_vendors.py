"""Lay out instances as two vendors' scanners do: where functional groups lie, and private elements.

The standard lets an enhanced instance keep a functional group once for all frames or in each of
them. Siemens and Philips keep geometry in each; Siemens the rescale once, Philips in each, beside a
private sequence with all attributes that a classic image would have. Siemens lists frames in the
order of an interleaved acquisition.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from pydicom.dataset import Dataset

from grata_monai.phantom.dicom_modules import make_dataset

__all__ = ["add_scale", "as_vendor", "order_frames"]

GEOMETRY = ("PlaneOrientationSequence", "PixelMeasuresSequence")
RESCALE = "PixelValueTransformationSequence"
PHILIPS_GROUP = 0x2005
SIEMENS_GROUP = 0x0021


def order_frames(indices: Sequence[int], *, vendor: str) -> list[int]:
    """Order frames as the vendor lists them."""
    return [*indices[::2], *indices[1::2]] if vendor == "siemens" else list(indices)


def as_vendor(instance: Dataset, *, vendor: str, scales: Sequence[float]) -> None:
    """Change an enhanced instance to the vendor's form, in place.

    Args:
        instance: With geometry, frame type and anatomy once, position and rescale in each frame.
        vendor: One of `VENDORS`; empty leaves it as it is.
        scales: Philips' scale slope of each frame; may be empty.
    """
    if not vendor:
        return
    frames = instance.PerFrameFunctionalGroupsSequence
    (shared,) = instance.SharedFunctionalGroupsSequence
    moved = [*GEOMETRY, f"{instance.Modality}ImageFrameTypeSequence"]
    if vendor == "philips":
        moved += ["FrameAnatomySequence"] + [k for k in ("MREchoSequence",) if k in shared]
    _spread(shared, frames, moved)
    if vendor == "siemens":
        _gather(shared, frames, RESCALE)
        for frame in frames:
            block = frame.private_block(SIEMENS_GROUP, "SIEMENS MR SDS 01", create=True)
            block.add_new(0xFE, "SQ", [make_dataset({"ImageComments": "private"})])
        return
    for frame, scale in zip(frames, scales, strict=False):
        attributes = make_dataset({"InstanceNumber": 1})
        add_scale(attributes, scale)
        block = frame.private_block(PHILIPS_GROUP, "Philips MR Imaging DD 005", create=True)
        block.add_new(0x0F, "SQ", [attributes])


def add_scale(dataset: Dataset, scale: float) -> None:
    """Add Philips' private scale slope to a classic instance, or to a frame's attributes."""
    block = dataset.private_block(PHILIPS_GROUP, "Philips MR Imaging DD 001", create=True)
    block.add_new(0x0E, "FL", scale)


def _spread(shared: Dataset, frames: Iterable[Dataset], keywords: Iterable[str]) -> None:
    """Move functional groups from the shared ones to each frame."""
    for keyword in keywords:
        group: Any = shared[keyword].value
        for frame in frames:
            setattr(frame, keyword, group)
        delattr(shared, keyword)


def _gather(shared: Dataset, frames: Sequence[Dataset], keyword: str) -> None:
    """Move a functional group to the shared ones if all frames have the same."""
    if all(frame[keyword] == frames[0][keyword] for frame in frames):
        setattr(shared, keyword, frames[0][keyword].value)
        for frame in frames:
            delattr(frame, keyword)
