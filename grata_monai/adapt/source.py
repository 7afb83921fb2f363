"""The source network's single pass over a case, and how foreign the case is to it."""

import time
from dataclasses import replace

from torch import Tensor, nn

from grata_monai.adapt.method import Episode, Predict
from grata_monai.adapt.network import choose_activation, copy_network, hash_weights
from grata_monai.adapt.profile import LayerStatistics, probe
from grata_monai.adapt.result import SourcePrediction
from grata_monai.core.types import Images, Logits

__all__ = ["predict_probed", "predict_source"]


def predict_source(network: nn.Module, episode: Episode) -> tuple[SourcePrediction, Episode]:
    """Make the source network's pass, if the caller has not.

    Args:
        network: The caller's; not touched.
        episode: As it was asked for.

    Returns:
        The prediction, and the episode with what depends on it: logits, activation, the profile if
        it belongs to this network, and the recipe with its safety margin.
    """
    clock = time.perf_counter()
    is_training = any(module.training for module in network.modules())
    frozen = copy_network(network) if is_training else network
    images, weights = _own(episode.images), hash_weights(network)
    profile = episode.profile if episode.profile and episode.profile.weights == weights else None
    logits, statistics = _pass_once(network, frozen, images, episode, is_probed=profile is not None)
    activation = choose_activation(episode.activation, logits.shape[1])
    shift = profile.shift(statistics) if profile and statistics else None
    seconds = time.perf_counter() - clock
    source = SourcePrediction(logits, activation, weights, frozen, seconds, shift)
    filled = replace(
        episode,
        images=images,
        source=logits,
        activation=activation,
        profile=profile,
        statistics=statistics,
        recipe=(
            episode.recipe.without_limits()
            if profile is not None and profile.is_fitted
            else episode.recipe.with_safety_margin(source.weights)
        ),
    )
    return source, filled


def _pass_once(
    network: nn.Module, frozen: nn.Module, images: Tensor, episode: Episode, *, is_probed: bool
) -> tuple[Logits, LayerStatistics | None]:
    known = episode.statistics
    if episode.source is not None and not (is_probed and known is None):
        return _own(episode.source), known
    if is_probed:
        return predict_probed(network, images, episode.predict)
    return episode.predict(images, frozen), None


def predict_probed(
    network: nn.Module, images: Images, predict: Predict
) -> tuple[Logits, LayerStatistics]:
    """Predict with a copy of the network, and read the statistics of its layers in the same pass.

    Args:
        network: The caller's, which others may use at the same time; not touched.
        images: (1, c, *s).
        predict: The wrapped inferer.

    Returns:
        Logits (1, k, *s), and what a profile compares.
    """
    copied = copy_network(network)
    with probe(copied) as statistics:
        logits = predict(images, copied)
    return logits, statistics


def _own(images: Tensor) -> Tensor:
    """Take a tensor that autograd may save: cloned if it was made under inference mode."""
    return images.detach().clone() if images.is_inference() else images.detach()
