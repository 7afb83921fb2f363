"""Batch normalisation on the case's own statistics, where that makes the network surer of it.

Another scanner moves the statistics that a network with batch normalisation learnt; on those of the
case it may see what it was trained to see. It may also lose its way. Which of the two happened
shows without a label: mirrored predictions then agree better than before, or do not. Where nobody
has calibrated the guard, this is asked before anything is magnified.
"""

from dataclasses import dataclass, replace

import torch

from grata_monai.adapt.method import Episode
from grata_monai.adapt.mirrored import measure_mirrored, predict_mirrored
from grata_monai.adapt.network import copy_network
from grata_monai.adapt.result import EpisodeResult, SourcePrediction
from grata_monai.adapt.signs import measure_entropy
from grata_monai.adapt.statistics import mix_statistics
from grata_monai.core.types import Probabilities

__all__ = ["look_whole"]

_SURER_BY = 0.05  # agreement of mirrored predictions, in [0, 1]; decision 40


@dataclass(frozen=True)
class _Look:
    """The whole image and its mirror images, predicted on some statistics."""

    maps: tuple[Probabilities, ...]
    consistency: float
    entropy: float


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
    known = _look(source, predict_mirrored(source, episode))
    found = replace(result, mirrored=known.maps, mirrored_whole=known.consistency)
    if not _is_open(result, episode):
        return found
    copied = copy_network(source.network)
    layers = mix_statistics(copied, 1.0)
    if not layers:
        return found
    own = _look(source, predict_mirrored(source, episode, copied))
    is_surer = own.consistency >= known.consistency + _SURER_BY and own.entropy < known.entropy
    if not is_surer:
        return found
    return replace(found, mirrored=own.maps, mirrored_whole=own.consistency, own_statistics=layers)


def _is_open(result: EpisodeResult, episode: Episode) -> bool:
    """Whether nobody has chosen the statistics: neither a recipe, nor a calibration."""
    return (
        episode.recipe.is_calibrated(result.source.weights) is False
        and episode.recipe.steps.image_share == 0
        and episode.memory is None
        and episode.location is None  # a part of an image has no statistics of its own
    )


def _look(source: SourcePrediction, maps: tuple[Probabilities, ...]) -> _Look:
    entropy = measure_entropy(torch.stack(maps).mean(0), source.activation)
    return _Look(maps, measure_mirrored(maps, source.activation), entropy)
