"""Find the organ and predict it at several magnifications; where these disagree, seek it again."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from grata_monai.adapt.equivariance import foreground_one_hot
from grata_monai.adapt.losses import probabilities
from grata_monai.adapt.method import Episode
from grata_monai.adapt.multiscale import (
    MultiscalePrediction,
    ZoomedRoi,
    locate_organ,
    plan_rois,
    predict_rois,
)
from grata_monai.adapt.patches import plan_patches
from grata_monai.adapt.shape import describe_outline
from grata_monai.adapt.signs import judge_organ, mark_organ
from grata_monai.adapt.views import admissible_views
from grata_monai.core.types import Logits, Probabilities

__all__ = ["LocalisedOrgan", "localise", "predict_organ"]


@dataclass(frozen=True)
class LocalisedOrgan:
    """Where the organ was found, and its multi-scale prediction.

    Attributes:
        maps: Probabilities (1, k, *s) of the pass that found it.
        found_by: The view of the whole image in that pass.
        is_found: Whether any pass marked anything.
        rois: A region per magnification; empty if none fits.
        prediction: Of these regions; None if there are none.
        dropped: View to the reason why it was left out.
    """

    maps: Probabilities
    found_by: str = "identity"
    is_found: bool = False
    rois: tuple[ZoomedRoi, ...] = ()
    prediction: MultiscalePrediction | None = None
    dropped: Mapping[str, str] = field(default_factory=dict)


def localise(
    episode: Episode, maps: Probabilities, predict: Callable[[Tensor], Logits]
) -> LocalisedOrgan:
    """Find the organ, and predict it at the recipe's magnifications.

    Where the magnified predictions are too little consistent, the organ is sought again at other
    scales of the whole image, and the place with the best consistency is kept: a pass that lost the
    organ cannot be mended by magnifying the place that it found. With a profile of source labels,
    a place counts only if what is found there can be the organ.

    Args:
        episode: The case at hand, with its activation.
        maps: Probabilities (1, k, *s) of the source network's pass.
        predict: Images to logits, with the weights as they are.

    Returns:
        The place that is kept.
    """
    best = _predict_about(episode, maps, "identity", predict)
    settings, dropped, is_found = episode.recipe.multiscale, dict(best.dropped), best.is_found
    trust = -1.0 if best.prediction is None else _trust(best, episode)
    consistency = float(is_found) if best.prediction is None else trust
    if settings.search_views and consistency < settings.search_below:
        for name, other in _search(episode, predict, dropped):
            organ = _predict_about(episode, other, name, predict)
            dropped |= organ.dropped
            if not is_plausible(organ, episode):
                if organ.is_found:
                    dropped[name] = "what it found is unlike the organ of source cases"
                continue
            is_found = is_found or organ.is_found
            if organ.prediction is not None and (value := _trust(organ, episode)) > trust:
                best, trust = organ, value
    return replace(best, is_found=is_found, dropped=dropped)


def is_plausible(organ: LocalisedOrgan, episode: Episode) -> bool:
    """Whether the prediction about a place can be the organ; any can without source labels."""
    profile = episode.profile
    if profile is None or profile.organ is None or organ.prediction is None:
        return True
    maps, activation = organ.prediction.maps, episode.activation
    found = judge_organ(
        maps,
        profile.organ,
        images=episode.images,
        spacing=episode.spacing,
        activation=activation,
    )
    if found is None or found.distance > profile.organ.limit:
        return False
    if profile.shape is None:
        return True
    outline = describe_outline(mark_organ(maps, activation))
    return outline is not None and profile.shape.distance(outline) <= profile.shape.limit


def _predict_about(
    episode: Episode, maps: Probabilities, name: str, predict: Callable[[Tensor], Logits]
) -> LocalisedOrgan:
    """Locate the organ in one pass, and predict the regions about it."""
    shape = tuple(episode.images.shape[2:])
    known = episode.location if name == "identity" else None
    location = known or locate_organ(maps, episode.activation)
    if location is None:
        return LocalisedOrgan(maps, name)
    plan = plan_patches(episode.inferer, shape)
    rois, dropped = plan_rois(episode.recipe.multiscale.views, location, plan, shape)
    organ = LocalisedOrgan(maps, name, True, tuple(rois), None, dropped)
    return predict_organ(episode, organ, predict) if rois else organ


def predict_organ(
    episode: Episode, organ: LocalisedOrgan, predict: Callable[[Tensor], Logits]
) -> LocalisedOrgan:
    """Predict the regions about an organ that has been found.

    Args:
        episode: The case at hand.
        organ: With its regions.
        predict: Images to logits, with the weights as they are.

    Returns:
        The organ with this prediction.
    """
    size = organ.rois[0].size
    views, dropped = admissible_views(
        episode.recipe.prediction_views,
        spatial_shape=size,
        spacing=episode.spacing,
        mirroring=episode.mirroring,
    )
    prediction = predict_rois(
        episode.images,
        organ.rois,
        views,
        lambda part: probabilities(predict(part), episode.activation),
        activation=episode.activation,
        sharpness=episode.recipe.multiscale.sharpness,
    )
    return replace(organ, prediction=prediction, dropped={**organ.dropped, **dropped})


def _trust(organ: LocalisedOrgan, episode: Episode) -> float:
    """Consistency, but 0 where the magnified views see nothing: empty masks agree perfectly."""
    prediction = organ.prediction
    assert prediction is not None, "only organs with a prediction are compared"
    is_empty = not bool(foreground_one_hot(prediction.maps, episode.activation).any())
    return 0.0 if is_empty else prediction.consistency


def _search(
    episode: Episode, predict: Callable[[Tensor], Logits], dropped: dict[str, str]
) -> Iterator[tuple[str, Probabilities]]:
    """Predict the whole image at other magnifications; background where a view saw nothing."""
    shape = tuple(episode.images.shape[2:])
    views, left_out = admissible_views(
        episode.recipe.multiscale.search_views,
        spatial_shape=shape,
        spacing=episode.spacing,
        mirroring=episode.mirroring,
    )
    dropped |= left_out
    for view in views:
        logits = predict(view.apply(episode.images))
        seen = view.coverage(shape, episode.images.device)
        maps = view.invert(probabilities(logits, episode.activation)) * seen
        if episode.activation == "softmax":
            maps[:, :1] += 1 - seen
        yield view.name, torch.as_tensor(maps)
