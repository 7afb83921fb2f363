"""Make a source profile from labelled or unlabelled source cases, and fit what it predicts."""

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
from grata_monai.adapt.quality import fit_quality
from grata_monai.core.errors import ProfileError
from grata_monai.experiments.compare.statistics import HARM
from grata_monai.experiments.harness.bench import Bench
from grata_monai.experiments.harness.run import Row

__all__ = ["Fit", "Observation", "fit_profile", "leave_each_out", "make_profile", "observe"]

_HOME_SHARE = 0.9  # of the source cases count as like those at home


@dataclass(frozen=True)
class Observation:
    """What a profile takes from one source case.

    Attributes:
        case: Its name; not kept in the profile.
        statistics: Of the network's layers.
        image: Of the image.
        organ: Of the label; None without one.
    """

    case: str
    statistics: LayerStatistics
    image: LayerStatistics
    organ: Features | None


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
    features = None
    if "label" in item:
        image = data["image"][0].cpu()
        label = ResampleToMatch(mode="nearest")(data["label"][0].float().cpu(), image)
        mask = (label > 0).any(0).numpy()
        features = describe_organ(mask, image[0].numpy(), episode.spacing or (1.0,) * mask.ndim)
        if features is None:
            raise ProfileError(
                f"every label must mark the organ, that of {item['case']!r} is empty. Leave it out."
            )
    return Observation(
        item["case"],
        episode.statistics,
        describe_image(episode.images, episode.spacing),
        features,
    )


def make_profile(observations: Sequence[Observation], weights: str) -> SourceProfile:
    """Describe source cases.

    Args:
        observations: At least three.
        weights: SHA-256 of the network's weights.

    Returns:
        A profile that predicts no quality yet; with the organ if every case has a label.

    Raises:
        ProfileError: If there are fewer than three.
    """
    layers, distances = profile_layers([o.statistics for o in observations])
    image, _ = profile_layers([o.image for o in observations])
    organs = [o.organ for o in observations if o.organ is not None]
    return SourceProfile(
        weights=weights,
        cases=len(observations),
        layers=layers,
        distances=tuple(round(d, 4) for d in sorted(distances)),
        image=image,
        organ=profile_organ(organs) if len(organs) == len(observations) else None,
        home_below=round(float(np.quantile(distances, _HOME_SHARE)), 4),
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


@dataclass(frozen=True)
class Fit:
    """How well a fitted profile does on cases that had no part in it.

    Attributes:
        profile: With its models.
        risk: Bound of the share of cases harmed under some shift; above `allowed` if too few cases
            were given for it.
        allowed: The share that was asked for.
        harmed: Cases that the choice harms, each left out in turn.
        gain: Mean gain over the source, over all left-out cases and shifts.
        oracle: The same for a choice that knows the label.
        kept: Share of cases and shifts in which the source is kept.
    """

    profile: SourceProfile
    risk: float
    allowed: float
    harmed: int
    gain: float
    oracle: float
    kept: float


def fit_profile(
    profile: SourceProfile,
    rows: Sequence[tuple[str, Row]],
    candidate: str,
    *,
    allowed: float = 0.1,
    confidence: float = 0.9,
) -> Fit:
    """Fit what predicts quality, and choose by conformal risk control how much gain it takes.

    Args:
        profile: Of all cases.
        rows: Shift and row, of ``source`` and of the candidate, with signs by left-out profiles.
        candidate: Its name.
        allowed: Largest share of cases that may be harmed under some shift.
        confidence: Of the lower bound of predicted quality.

    Returns:
        The fitted profile, and what it is worth on left-out cases.

    Source:
        Angelopoulos et al., Conformal Risk Control, ICLR 2024: the bound holds for cases that are
        exchangeable with these.
    """
    source = {(row.case, shift): row for shift, row in rows if row.method == "source"}
    found = {(row.case, shift): row for shift, row in rows if row.method == candidate}
    both = [key for key in found if key in source and "kept" in found[key].signs]
    cases = sorted({case for case, _ in source})
    plain = [(source[k].signs["source"], source[k].dice, k[0]) for k in source]
    kept = [(found[k].signs["kept"], found[k].dice, k[0]) for k in both]
    gains: dict[tuple[str, str], float] = {}
    at_home: list[float] = []
    for case in cases:
        models = [
            fit_quality(*_unzip([row for row in part if row[2] != case]), confidence=confidence)
            for part in (plain, kept)
        ]
        if (case, "none") in source:
            at_home.append(models[0].predict(source[case, "none"].signs["source"]).dice)
        for key in (k for k in both if k[0] == case):
            before = models[0].predict(source[key].signs["source"]).dice
            gains[key] = models[1].predict(found[key].signs["kept"]).dice - before
    true = {key: found[key].dice - source[key].dice for key in both}
    margin, risk = _control(gains, true, cases, allowed)
    chosen = {key: true[key] if gains[key] >= margin else 0.0 for key in both}
    fitted = replace(
        profile,
        models={
            "plain": fit_quality(*_unzip(plain), confidence=confidence),
            "kept": fit_quality(*_unzip(kept), confidence=confidence),
        },
        gain_above=round(margin, 4),
        home_quality=round(float(np.quantile(at_home, 1 - _HOME_SHARE)), 4) if at_home else 0.0,
    )
    return Fit(
        profile=fitted,
        risk=risk,
        allowed=allowed,
        harmed=_count_harmed(chosen, cases),
        gain=sum(chosen.values()) / len(source),
        oracle=sum(max(value, 0.0) for value in true.values()) / len(source),
        kept=1 - sum(gains[key] >= margin for key in both) / len(source),
    )


def _unzip(
    rows: Sequence[tuple[Mapping[str, float], float, str]],
) -> tuple[list[Mapping[str, float]], list[float], list[str]]:
    return [r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows]


def _control(
    gains: Mapping[tuple[str, str], float],
    true: Mapping[tuple[str, str], float],
    cases: Sequence[str],
    allowed: float,
) -> tuple[float, float]:
    """The smallest predicted gain to go by whose bounded risk is allowed; else the safest."""
    margins = [0.0, *sorted(g + 1e-4 for g in gains.values() if g >= 0)]
    bounds = []
    for margin in margins:
        chosen = {key: true[key] if gains[key] >= margin else 0.0 for key in gains}
        risk = (_count_harmed(chosen, cases) + 1) / (len(cases) + 1)
        if risk <= allowed:
            return margin, risk
        bounds.append(risk)
    least = min(bounds)
    return margins[bounds.index(least)], least


def _count_harmed(gains: Mapping[tuple[str, str], float], cases: Sequence[str]) -> int:
    harmed = {case for (case, _), gain in gains.items() if gain < -HARM}
    return len(harmed & set(cases))
