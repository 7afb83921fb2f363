"""Run a part: train, calibrate on source cases, compare on the tests."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from grata_monai.adapt.profile import SourceProfile
from grata_monai.adapt.recipe import resolve_recipe
from grata_monai.experiments.calibrate.run import Settings, calibrate
from grata_monai.experiments.calibrate.search import shift_bench
from grata_monai.experiments.harness.bench import Bench
from grata_monai.experiments.harness.opening import open_bench
from grata_monai.experiments.harness.options import WEIGHTS
from grata_monai.experiments.harness.progress import show_progress
from grata_monai.experiments.harness.run import Row, run_methods
from grata_monai.experiments.reproduce.part import Part
from grata_monai.experiments.reproduce.train import load_labels, train_network
from grata_monai.methods.registry import System, grata_system, make_systems
from grata_monai.methods.shape_moments import ShapeMoments, shape_prior

__all__ = ["Options", "run_part"]

CALIBRATED = "grata-calibrated"

Team = tuple[Mapping[str, System], Bench]
"""Systems, and what they run on: a calibrated one has its source profile."""


@dataclass(frozen=True)
class Options:
    """How a benchmark is run.

    Attributes:
        bundle_dir: Root of the bundle whose configuration, and for PROMISE12 weights, are taken.
        methods: Names; all if empty.
        settings: Ids of the bundle's configuration and their values, over those of a part, in
            training too; weights among them are taken in place of training.
        device: ``auto`` or a torch device.
        seed: Of everything random.
        facts: What a reader of the reports must know.
        unverified: Whether not to hold the bundle to its manifest.
    """

    bundle_dir: Path
    methods: Sequence[str]
    settings: Mapping[str, Any]
    device: str
    seed: int
    facts: Mapping[str, str]
    unverified: bool = False


def run_part(part: Part, out: Path, options: Options) -> list[Row]:
    """Do whatever earlier runs left undone, and return all rows of the tests.

    Args:
        part: What to run.
        out: Its folder: weights, calibration, rows.
        options: How.

    Returns:
        A row per method and test; a test under a shift has ``SHIFT`` for its centre.

    Raises:
        BundleError: If the bundle is not as its manifest says; nothing of it was parsed then.
        DatasetError: If a case is missing.
        OutputError: If the folder cannot be written.
    """
    part = replace(part, settings={**part.settings, **options.settings})
    settings = {**part.settings, "device#name": options.device}
    if part.training and WEIGHTS not in settings:
        weights = train_network(
            part,
            options.bundle_dir,
            out,
            device=options.device,
            seed=options.seed,
            unverified=options.unverified,
        )
        settings[WEIGHTS] = str(weights.absolute())
    bench = open_bench(options.bundle_dir, settings=settings, unverified=options.unverified)
    teams: list[Team] = [(_make_systems(part, options), bench)]
    if part.calibration and (not options.methods or CALIBRATED in options.methods):
        teams.append(_calibrate(part, bench, out / "calibration.json", options))
    tests = list(_spread(part))
    total = sum(len(methods) for methods, _ in teams) * sum(len(cases) for _, cases in tests)
    return show_progress(_compare(teams, tests, out, options.seed), total=total)


def _compare(
    teams: Sequence[Team],
    tests: Sequence[tuple[str, list[dict[str, str]]]],
    out: Path,
    seed: int,
) -> Iterator[Row]:
    """Run every group of tests by itself: online methods start anew with each."""
    for shift, cases in tests:
        for methods, bench in teams:
            shifted = shift_bench(bench, shift, seed=seed)
            yield from run_methods(methods, cases, shifted, out, seed=seed)


def _spread(part: Part) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Source tests under every shift, and each other centre as it is."""
    for shift in part.shifts:
        own = [dict(case) for case in part.tests if case["centre"] == "source"]
        if shift != "none":
            own = [{**c, "case": f"{shift}_{c['case']}", "centre": shift} for c in own]
        yield shift, own
    for centre in dict.fromkeys(case["centre"] for case in part.tests):
        if centre != "source":
            yield "none", [dict(case) for case in part.tests if case["centre"] == centre]


def _make_systems(part: Part, options: Options) -> dict[str, System]:
    wanted = [name for name in options.methods if name != CALIBRATED]
    methods = make_systems(wanted if wanted or not options.methods else ["source"])
    if "shape_moments" in methods:
        labels = load_labels(part, options.bundle_dir, unverified=options.unverified)
        prior = shape_prior(labels, classes=max(int(label.max()) for label in labels))
        methods["shape_moments"] = System(ShapeMoments(prior=prior))
    return methods


def _calibrate(part: Part, bench: Bench, chosen: Path, options: Options) -> Team:
    """Choose a recipe on source cases and fit its profile, or take what an earlier run chose."""
    if not chosen.exists():
        settings = Settings(
            shifts=part.calibration_shifts, candidates=part.candidates, seed=options.seed
        )
        calibrate(
            [dict(case) for case in part.calibration], bench, chosen, settings, facts=options.facts
        )
    overlay = json.loads(chosen.read_text(encoding="utf-8"))
    recipe = resolve_recipe(overlay["recipe"]).changed(precision=bench.precision)
    if "profile" in overlay:
        bench = replace(bench, profile=SourceProfile.read(overlay["profile"]))
    return {CALIBRATED: grata_system(recipe)}, bench
