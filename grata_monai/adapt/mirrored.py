"""The network's mirrored predictions of the whole image: their consistency and their average.

Their average costs a pass for every view and hardly ever harms: it is kept where neither magnified
views nor steps are trusted.
"""

import torch
from torch import nn

from grata_monai.adapt.equivariance import foreground_one_hot
from grata_monai.adapt.losses import probabilities, to_logits
from grata_monai.adapt.method import Episode
from grata_monai.adapt.multiscale import consistency_scores
from grata_monai.adapt.result import SourcePrediction, foreground_size
from grata_monai.adapt.views import admissible_views
from grata_monai.core.types import Logits, Probabilities

__all__ = ["average_mirrored", "measure_mirrored", "predict_mirrored"]


def predict_mirrored(
    source: SourcePrediction, episode: Episode, network: nn.Module | None = None
) -> tuple[Probabilities, ...]:
    """Predict every prediction view of the whole image with the source network's weights.

    Args:
        source: The source network's prediction, used again for the identity.
        episode: The case at hand.
        network: A copy of the source network on other statistics; None for the network itself.

    Returns:
        Probabilities (1, k, *s) of every view that fits the image, mapped back.
    """
    images = episode.images
    views, _ = admissible_views(
        episode.recipe.prediction_views,
        spatial_shape=tuple(images.shape[2:]),
        spacing=episode.spacing,
        mirroring=episode.mirroring,
    )
    found = []
    for view in views:
        if network is None:
            logits = episode.predict_unmoved(view.apply(images), source.network)
        else:
            logits = episode.predict(view.apply(images), network).float()
        found.append(probabilities(view.invert(logits), source.activation))
    return tuple(found)


def measure_mirrored(maps: tuple[Probabilities, ...], activation: str) -> float:
    """Measure the consistency of mirrored predictions, in [0, 1]; 0 if the first marks nothing."""
    if not bool(foreground_one_hot(maps[0], activation).any()):
        return 0.0
    return float(consistency_scores([list(maps)], [], activation)[0][0])


def average_mirrored(maps: tuple[Probabilities, ...], source: SourcePrediction) -> Logits | None:
    """Average mirrored predictions; None if there is only one, or they say nothing new.

    Args:
        maps: Of `predict_mirrored`.
        source: The source network's prediction.

    Returns:
        Logits (1, k, *s); never empty where the source's are not.
    """
    if len(maps) < 2:
        return None
    logits = to_logits(torch.stack(maps).mean(0), source.activation)
    return logits if foreground_size(logits, source.activation) else None
