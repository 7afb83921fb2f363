"""Batch normalisation on the case's own statistics, where that makes the network surer of it.

Another scanner moves the statistics that a network with batch normalisation learnt; on those of the
case it may see what it was trained to see. It may also lose its way. Which of the two happened
shows without a label: mirrored predictions then agree better than before, or do not. Where nobody
has calibrated the guard, this is asked before anything is magnified.
"""

from dataclasses import replace

import torch

from grata_monai.adapt.method import Episode
from grata_monai.adapt.mirrored import measure_mirrored, predict_mirrored
from grata_monai.adapt.network import copy_network
from grata_monai.adapt.result import EpisodeResult
from grata_monai.adapt.signs import measure_entropy
from grata_monai.adapt.statistics import layers_with_statistics, mix_statistics
from grata_monai.core.types import Probabilities

__all__ = ["look_whole"]

_SURER_BY = 0.05  # agreement of mirrored predictions, in [0, 1]; decision 40


def look_whole(result: EpisodeResult, episode: Episode) -> EpisodeResult:
    """Predict the whole image mirrored, on the source's statistics or, if surer, on its own.

    Args:
        result: With the source's prediction.
        episode: The case at hand.

    Returns:
        The result with mirrored predictions and their consistency, which magnified views must
        surpass; and with the layers whose statistics are the image's, if they are.
    """
    source = result.source
    maps = predict_mirrored(source, episode)
    known = measure_mirrored(maps, source.activation)
    found = replace(result, mirrored=maps, mirrored_whole=known)
    if not _is_open(result, episode):
        return found
    copied = copy_network(source.network)
    layers = mix_statistics(copied, 1.0)
    own = predict_mirrored(source, episode, copied)
    consistency = measure_mirrored(own, source.activation)
    if consistency < known + _SURER_BY:
        return found
    if _measure_entropy(own, source.activation) >= _measure_entropy(maps, source.activation):
        return found
    return replace(found, mirrored=own, mirrored_whole=consistency, own_statistics=layers)


def _is_open(result: EpisodeResult, episode: Episode) -> bool:
    """Whether there is a choice, and neither a recipe nor a calibration has made it."""
    return (
        episode.recipe.is_calibrated(result.source.weights) is False
        and episode.recipe.steps.image_share == 0
        and episode.memory is None
        and episode.location is None  # a part of an image has no statistics of its own
        and bool(layers_with_statistics(result.source.network))
    )


def _measure_entropy(maps: tuple[Probabilities, ...], activation: str) -> float:
    return measure_entropy(torch.stack(maps).mean(0), activation)
