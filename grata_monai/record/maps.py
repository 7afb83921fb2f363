"""Gather what a reader is shown of a case beside its mask, in two bytes a voxel.

The numbers of a record say how much predictions differ; these maps say where.
"""

import torch
from monai.transforms import KeepLargestConnectedComponent
from torch import Tensor

from grata_monai.adapt.result import EpisodeResult
from grata_monai.adapt.scores import Selected

__all__ = ["make_maps"]


def make_maps(result: EpisodeResult, *, single_piece: bool) -> Tensor:
    """Make the maps of a finished episode, on the network's grid.

    Args:
        result: What the episode did.
        single_piece: Whether the target is one connected piece; then only the largest one of every
            label of the source's is shown, as postprocessing keeps it of the mask.

    Returns:
        uint8 (1, 2, *s). First the source network's label map; then the magnifications: bit k is
        set where window k of the record's focus marks foreground, after adaptation if that was
        kept, else before; 0 everywhere if nothing was magnified. More than eight do not fit.
    """
    marks = result.source.marks
    labels = _number_channels(marks) if result.source.activation == "sigmoid" else marks
    if single_piece:
        labels = torch.as_tensor(KeepLargestConnectedComponent()(labels[0]))[None]
    is_adapted = result.decision.selected is Selected.ADAPTED
    organ = result.after if is_adapted and result.after is not None else result.organ
    marked = None if organ is None or organ.prediction is None else organ.prediction.marked
    marked = marked if result.marked is None else result.marked
    return torch.cat(
        [labels.byte(), torch.zeros_like(labels.byte()) if marked is None else marked], 1
    )


def _number_channels(masks: Tensor) -> Tensor:
    """Number the first channel that marks a voxel, from 1; 0 where none does."""
    numbers = masks.byte().argmax(1, keepdim=True) + 1
    return numbers * masks.any(1, keepdim=True)
