"""One calibration from cases to recipe: run the candidates, choose, write."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grata_monai.adapt.network import hash_weights
from grata_monai.adapt.recipe import resolve_recipe
from grata_monai.experiments.calibrate.candidates import (
    CANDIDATES,
    MIRRORED,
    default_candidates,
    make_candidates,
)
from grata_monai.experiments.calibrate.choose import choose
from grata_monai.experiments.calibrate.fit import can_fit, fit_profile
from grata_monai.experiments.calibrate.profile import leave_each_out, make_profile, observe
from grata_monai.experiments.calibrate.report import write_choice, write_overlay
from grata_monai.experiments.calibrate.reviews import heed_reviews
from grata_monai.experiments.calibrate.search import run_candidates, to_scores
from grata_monai.experiments.harness.bench import Bench
from grata_monai.experiments.harness.progress import show_progress
from grata_monai.experiments.harness.run import Row
from grata_monai.report.reviews import Review
from grata_monai.spread import Workers

__all__ = ["Settings", "calibrate", "describe_source"]

_FEWEST = 3  # cases; a profile of fewer others says nothing


@dataclass(frozen=True)
class Settings:
    """How to calibrate.

    Attributes:
        shifts: Names out of `REAL_SHIFTS`; ``none`` among them.
        candidates: Names to settings; the built-in ones for the network if empty.
        base: Recipe whose other settings are kept.
        most_harm: Largest allowed share of cases and shifts that lose.
        seed: Of everything random.
        reviews: What readers said about earlier masks; may raise the amber limit.
    """

    shifts: Sequence[str]
    candidates: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    base: str = "clinical"
    most_harm: float = 0.02
    seed: int = 0
    reviews: Sequence[Review] = ()


def calibrate(
    cases: Sequence[Mapping[str, str]],
    bench: Bench,
    out: Path,
    settings: Settings,
    *,
    facts: Mapping[str, str],
    others: Sequence[Mapping[str, str]] = (),
    crew: tuple[Callable[[int], Bench], Workers] | None = None,
) -> tuple[Path, str]:
    """Run what has no row yet, with a progress bar; choose; write recipe and report.

    Args:
        cases: Of `list_cases`, with labels.
        bench: The bundle.
        out: The recipe's ``.json`` file; the rows go into the folder of its name.
        settings: How.
        facts: What a reader of the report must know.
        others: Further source cases, with labels or without, that are only observed for the source
            profile: one pass each.
        crew: As of `run_candidates`.

    Returns:
        The report's path and text.

    Raises:
        OutputError: If the folder cannot be written.
        RecipeError: If a candidate is wrong.
        ValueError: If there are fewer than two cases, or no shift ``none``.
    """
    given = {**(settings.candidates or default_candidates(bench.network))}
    if resolve_recipe(settings.base).is_mirrored:
        given.setdefault(MIRRORED, dict(CANDIDATES[MIRRORED]))
    candidates = make_candidates(given, settings.base, precision=bench.precision)
    found: list[tuple[str, Row]] = []
    known = {case["case"] for case in cases}
    observed = [*cases, *(other for other in others if other["case"] not in known)]
    observations = [observe(case, bench, seed=settings.seed) for case in observed]
    profiles = leave_each_out(observations, bench) if len(cases) > _FEWEST else {}

    def remember() -> Iterator[Row]:
        folder = out.with_suffix("")
        for pair in run_candidates(
            candidates,
            cases,
            bench,
            folder,
            shifts=settings.shifts,
            seed=settings.seed,
            profiles=profiles,
            crew=crew,
        ):
            found.append(pair)
            yield pair[1]

    show_progress(remember(), total=(len(candidates) + 1) * len(cases) * len(settings.shifts))
    orders = list(settings.shifts), ["source", *candidates], [case["case"] for case in cases]
    found.sort(  # workers bring them in any order
        key=lambda pair: tuple(
            order.index(value)
            for order, value in zip(orders, (pair[0], pair[1].method, pair[1].case), strict=True)
        )
    )
    scores, refused = to_scores(found)
    choice = choose(scores, most_harm=settings.most_harm)
    if settings.reviews:
        choice, told = heed_reviews(choice, settings.reviews)
        facts = {**facts, "reviews": told}
    fixed = {"base": settings.base, "calibrated_for": hash_weights(bench.network)}
    written = {name: {**fixed, **values} for name, values in given.items()}
    fits = []
    if profiles:
        profile = make_profile(observations, hash_weights(bench.network))
        mirrored = MIRRORED if MIRRORED in candidates else ""
        fits = [
            fit_profile(profile, found, name, mirrored=mirrored)
            for name in candidates
            if name not in refused and name != MIRRORED and can_fit(found, name)
        ]
    fit = max(fits, key=lambda fit: (fit.holds, fit.gain), default=None)
    return write_choice(choice, scores, written, out, facts=facts, refused=refused, fit=fit)


def describe_source(
    cases: Sequence[Mapping[str, str]], bench: Bench, out: Path, *, seed: int = 0
) -> str:
    """Describe source cases without a calibration: labels are not needed.

    Args:
        cases: Of `list_cases`, at least three.
        bench: The bundle.
        out: The overlay's ``.json`` file; the profile is written beside it.
        seed: Of the run.

    Returns:
        What was written, for a reader.

    Raises:
        OutputError: If the folder cannot be written.
        ProfileError: If there are fewer than three cases.
    """
    observations = [observe(case, bench, seed=seed) for case in cases]
    profile = make_profile(observations, hash_weights(bench.network))
    write_overlay({}, profile, out)
    return (
        f"A profile of {profile.cases} cases. Cases nearer than {profile.home_below:.2f} keep the "
        "source prediction; quality is not predicted, for which labelled cases are needed."
    )
