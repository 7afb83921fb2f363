"""Make a source profile from labelled or unlabelled source cases, and fit what it predicts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

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
from grata_monai.adapt.quality import doubt_source, fit_quality, predict_left_out
from grata_monai.adapt.shape import Outline, describe_outline, profile_outlines
from grata_monai.adapt.signs import excess_distance
from grata_monai.core.errors import ProfileError
from grata_monai.experiments.compare.statistics import HARM
from grata_monai.experiments.harness.bench import Bench
from grata_monai.experiments.harness.run import Row

__all__ = [
    "Fit",
    "Observation",
    "can_fit",
    "fit_profile",
    "leave_each_out",
    "make_profile",
    "observe",
]

_FEWEST = 3  # labels that tell what an organ is like
_HOME_SHARE = 0.9  # of the source cases count as like those at home


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
        name: Of the candidate.
        profile: With its models.
        risk: Bound of the share of cases harmed under some shift; above `allowed` if too few cases
            were given for it.
        allowed: The share that was asked for.
        harmed: Cases that the choice harms, each left out in turn.
        gain: Mean gain over the source, over all left-out cases and shifts.
        oracle: The same for a choice that knows the label.
        kept: Share of cases and shifts that hand on each prediction.
        by_shift: Shift to the mean gain and the oracle's.
    """

    name: str
    profile: SourceProfile
    risk: float
    allowed: float
    harmed: int
    gain: float
    oracle: float
    kept: Mapping[str, float]
    by_shift: Mapping[str, tuple[float, float]]

    @property
    def holds(self) -> bool:
        """Whether the bound is what was asked for."""
        return self.risk <= self.allowed


_Key = tuple[str, str]  # case and shift


def fit_profile(
    profile: SourceProfile,
    rows: Sequence[tuple[str, Row]],
    candidate: str,
    *,
    mirrored: str = "",
    allowed: float = 0.1,
    confidence: float = 0.9,
) -> Fit:
    """Fit what predicts quality, and choose by conformal risk control how much gain it takes.

    Args:
        profile: Of all cases.
        rows: Shift and row, of ``source`` and of the candidate, with signs by left-out profiles.
        candidate: Its name.
        mirrored: Name of the rows that average mirrored predictions of the whole image, which stand
            in where the candidate is not kept; empty without.
        allowed: Largest share of cases that may be harmed under some shift.
        confidence: Of the lower bound of predicted quality.

    Returns:
        The fitted profile, and what it is worth on left-out cases.

    Source:
        Angelopoulos et al., Conformal Risk Control, ICLR 2024: the bound holds for cases that are
        exchangeable with these.
    """
    plain = _collect(rows, "source", "source")
    found = {"kept": _collect(rows, candidate, "kept")}
    if mirrored and mirrored != candidate and can_fit(rows, mirrored):
        found["mirrored"] = _collect(rows, mirrored, "kept")
    cases = sorted({case for case, _ in plain})
    left_out = _leave_out(found["kept"])
    before = _leave_out(plain)
    true = {
        name: {key: part[key][1] - plain[key][1] for key in part if key in plain}
        for name, part in found.items()
    }
    decides = {
        "kept": {
            key: left_out[key] - doubt_source(before[key], left_out[key], 1 - signs["change"])
            for key, (signs, _) in found["kept"].items()
            if key in plain
        },
        "mirrored": {key: 1 - s["change"] for key, (s, _) in found.get("mirrored", {}).items()},
    }
    chosen: dict[_Key, tuple[str, float]] = dict.fromkeys(plain, ("source", 0.0))
    margins: dict[str, float | None] = {}
    risk = 1 / (len(cases) + 1)
    for name, gains in true.items():
        margin, risk, chosen = _control(name, chosen, decides[name], gains, cases, allowed)
        margins[name] = margin
    at_home = [before[case, "none"] for case in cases if (case, "none") in before]
    home_quality = float(np.quantile(at_home, 1 - _HOME_SHARE)) if at_home else 0.0
    gain_above = margins["kept"]
    fitted = replace(
        profile,
        models={
            name: fit_quality(*_unzip(part), confidence=confidence)
            for name, part in {"plain": plain, **found}.items()
        },
        gain_above=1.0 if gain_above is None else round(gain_above, 4),
        mirrored_from=margins.get("mirrored"),
        home_quality=round(home_quality, 4),
        home_lower=_bound_home(profile, plain, before, home_quality, confidence),
    )
    best = {key: max(0.0, *(gains.get(key, 0.0) for gains in true.values())) for key in plain}
    shifts = dict.fromkeys(shift for _, shift in plain)
    names = ["source", *found]
    return Fit(
        name=candidate,
        profile=fitted,
        risk=risk,
        allowed=allowed,
        harmed=_count_harmed(chosen, cases),
        gain=fmean(gain for _, gain in chosen.values()),
        oracle=fmean(best.values()),
        kept={name: fmean(n == name for n, _ in chosen.values()) for name in names},
        by_shift={
            shift: (
                fmean(gain for key, (_, gain) in chosen.items() if key[1] == shift),
                fmean(value for key, value in best.items() if key[1] == shift),
            )
            for shift in shifts
        },
    )


_Part = Mapping[_Key, tuple[Mapping[str, float], float]]


def can_fit(rows: Sequence[tuple[str, Row]], candidate: str) -> bool:
    """Whether a candidate predicted enough cases: where it found nothing, a row has no signs."""
    return len({case for case, _ in _collect(rows, candidate, "kept")}) >= _FEWEST


def _collect(rows: Sequence[tuple[str, Row]], method: str, signs: str) -> _Part:
    """Case and shift to signs and Dice of a method; without rows that lack a sign of the others."""
    found = {
        (row.case, shift): (row.signs[signs], row.dice)
        for shift, row in rows
        if row.method == method and signs in row.signs
    }
    most = max((len(s) for s, _ in found.values()), default=0)
    return {key: value for key, value in found.items() if len(value[0]) == most}


def _unzip(part: _Part) -> tuple[list[Mapping[str, float]], list[float], list[str]]:
    return [s for s, _ in part.values()], [d for _, d in part.values()], [case for case, _ in part]


def _leave_out(part: _Part) -> dict[_Key, float]:
    """Predict the Dice of every row by a model of the other cases."""
    return dict(zip(part, map(float, predict_left_out(*_unzip(part))), strict=True))


def _control(
    name: str,
    chosen: Mapping[_Key, tuple[str, float]],
    decides: Mapping[_Key, float],
    true: Mapping[_Key, float],
    cases: Sequence[str],
    allowed: float,
) -> tuple[float | None, float, dict[_Key, tuple[str, float]]]:
    """Choose from which value of what decides a prediction stands in for the source.

    Returns:
        Of the values whose bounded risk is allowed the one that gains most, or None, which never
        takes the prediction, if that is the best; the bound; and what is chosen then.
    """
    rest = [key for key in decides if chosen[key][0] == "source"]
    tried: list[tuple[float, float, float | None, dict[_Key, tuple[str, float]]]] = []
    for margin in (None, *sorted(round(decides[key] - 5e-5, 4) for key in rest)):
        taken = [key for key in rest if margin is not None and decides[key] >= margin]
        found = {**chosen, **{key: (name, true[key]) for key in taken}}
        risk = (_count_harmed(found, cases) + 1) / (len(cases) + 1)
        tried.append((risk, sum(gain for _, gain in found.values()), margin, found))
    least = max(allowed, min(risk for risk, *_ in tried))
    risk, _, margin, found = max((t for t in tried if t[0] <= least), key=lambda t: t[1])
    return margin, risk, found


def _bound_home(
    profile: SourceProfile,
    plain: _Part,
    predicted: Mapping[_Key, float],
    home_quality: float,
    confidence: float,
) -> float:
    """Bound the Dice of cases that would be taken for those at home, each by its worst shift."""
    farthest = excess_distance(profile.home_below or 0.0, profile.distances)
    worst: dict[str, float] = {}
    for key, (signs, dice) in plain.items():
        if signs["shift"] <= farthest and predicted[key] >= home_quality:
            worst[key[0]] = min(dice, worst.get(key[0], 1.0))
    rank = math.floor((len(worst) + 1) * (1 - confidence) + 1e-9)
    return round(sorted(worst.values())[rank - 1], 4) if rank else 0.0


def _count_harmed(chosen: Mapping[_Key, tuple[str, float]], cases: Sequence[str]) -> int:
    harmed = {case for (case, _), (_, gain) in chosen.items() if gain < -HARM}
    return len(harmed & set(cases))
