"""Make a source profile from source cases, with labels or without; `fit` fits what it predicts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from monai.transforms import ResampleToMatch

from grata_monai.adapt.network import hash_weights
from grata_monai.adapt.organ import Features, describe_organ, profile_organ
from grata_monai.adapt.profile import (
    LayerStatistics,
    SourceProfile,
    describe_image,
    profile_layers,
)
from grata_monai.adapt.shape import Outline, describe_outline, profile_outlines
from grata_monai.core.errors import ProfileError
from grata_monai.experiments.harness.bench import Bench

__all__ = ["HOME_SHARE", "Observation", "leave_each_out", "make_profile", "observe"]

HOME_SHARE = 0.9
"""Of the source cases that count as like those at home."""

_FEWEST = 3  # labels that tell what an organ is like


@dataclass(frozen=True)
class Observation:
    """What a profile takes from one source case.

    Attributes:
        case: Its name; not kept in the profile.
        statistics: Of the network's layers.
        image: Of the image.
        organ: Of the label; None without one.
        outline: Of the label; None without one.
    """

    case: str
    statistics: LayerStatistics
    image: LayerStatistics
    organ: Features | None
    outline: Outline | None


def observe(item: Mapping[str, str], bench: Bench, *, seed: int = 0) -> Observation:
    """Pass one source case through the network.

    Args:
        item: Of `list_cases`, with or without a label.
        bench: The bundle.
        seed: Of the run.

    Raises:
        ProfileError: If its label is empty.
    """
    prepared = bench.prepare(item, seed=seed, is_probed=True)
    episode, data = prepared.episode, prepared.data
    assert episode.statistics is not None
    features = outline = None
    if "label" in item:
        image = data["image"][0].cpu()
        label = ResampleToMatch(mode="nearest")(data["label"][0].float().cpu(), image)
        mask = (label > 0).any(0).numpy()
        features = describe_organ(mask, image[0].numpy(), episode.spacing or (1.0,) * mask.ndim)
        outline = describe_outline(mask)
        if features is None:
            raise ProfileError(
                f"every label must mark the organ, that of {item['case']!r} is empty. Leave it out."
            )
    return Observation(
        item["case"],
        episode.statistics,
        describe_image(episode.images, episode.spacing),
        features,
        outline,
    )


def make_profile(observations: Sequence[Observation], weights: str) -> SourceProfile:
    """Describe source cases.

    Args:
        observations: At least three.
        weights: SHA-256 of the network's weights.

    Returns:
        A profile that predicts no quality yet; with the organ if at least three cases have a label.

    Raises:
        ProfileError: If there are fewer than three.
    """
    layers, distances = profile_layers([o.statistics for o in observations])
    image, _ = profile_layers([o.image for o in observations])
    organs = [o.organ for o in observations if o.organ is not None]
    outlines = [o.outline for o in observations if o.outline is not None]
    return SourceProfile(
        weights=weights,
        cases=len(observations),
        layers=layers,
        distances=tuple(round(d, 4) for d in sorted(distances)),
        image=image,
        organ=profile_organ(organs) if len(organs) >= _FEWEST else None,
        shape=profile_outlines(outlines) if len(outlines) >= _FEWEST else None,
        home_below=round(float(np.quantile(distances, HOME_SHARE)), 4),
    )


def leave_each_out(observations: Sequence[Observation], bench: Bench) -> dict[str, SourceProfile]:
    """Make for every case the profile of the others; it adapts every case.

    Raises:
        ProfileError: If there are fewer than four.
    """
    weights = hash_weights(bench.network)
    return {
        left.case: replace(
            make_profile([o for o in observations if o is not left], weights), home_below=None
        )
        for left in observations
    }
