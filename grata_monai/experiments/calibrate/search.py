"""Run every candidate on every case under every shift; what is done stays done."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from monai.transforms import Compose

from grata_monai.adapt.profile import SourceProfile
from grata_monai.adapt.recipe import Recipe
from grata_monai.experiments.calibrate.choose import Scores
from grata_monai.experiments.calibrate.shifts import ShiftScannerd
from grata_monai.experiments.harness.bench import Bench
from grata_monai.experiments.harness.devices import divide
from grata_monai.experiments.harness.key import digest
from grata_monai.experiments.harness.run import Row, run_methods
from grata_monai.methods.registry import System, grata_system, make_systems
from grata_monai.spread import Task, Workers, spread

__all__ = ["run_candidates", "shift_bench", "to_scores"]


def run_candidates(  # noqa: PLR0913  # what runs, on what, by whom
    candidates: Mapping[str, Recipe],
    cases: Sequence[Mapping[str, str]],
    bench: Bench,
    out: Path,
    *,
    shifts: Sequence[str],
    seed: int = 0,
    profiles: Mapping[str, SourceProfile] | None = None,
    crew: tuple[Callable[[int], Bench], Workers] | None = None,
) -> Iterator[tuple[str, Row]]:
    """Run the source network and every candidate that has no row yet.

    Args:
        candidates: Name to recipe, case by case.
        cases: Of `list_cases`, with labels.
        bench: The bundle; its first preprocessing step must read the image.
        out: Folder of rows, ``SHIFT/rows/CANDIDATE/CASE.json``.
        shifts: Names out of `REAL_SHIFTS`.
        seed: Of everything random.
        profiles: Case to a profile of the other cases.
        crew: What opens the bundle for a worker of a number, and the workers; None for none.

    Yields:
        Shift and row; from workers, as they come.

    Raises:
        OutputError: If the folder cannot be written.
    """
    methods = make_systems(["source"])
    # the guard's limits are chosen afterwards, so no candidate may keep the source because of them
    methods |= {name: grata_system(_free(recipe)) for name, recipe in candidates.items()}
    run = partial(_run_part, out=out, seed=seed, profiles=profiles)
    if crew is None:
        for shift in shifts:
            yield from run(bench, (shift, methods, cases))
        return
    open_for, workers = crew
    parts = [(shift, *part) for shift in shifts for part in divide(methods, cases)]
    for found in spread(Task(open_for, partial(_list_part, run), parts), out, workers):
        yield from found


Part = tuple[str, Mapping[str, System], Sequence[Mapping[str, str]]]


def _run_part(
    bench: Bench,
    part: Part,
    *,
    out: Path,
    seed: int,
    profiles: Mapping[str, SourceProfile] | None,
) -> Iterator[tuple[str, Row]]:
    shift, methods, cases = part
    shifted = shift_bench(bench, shift, seed=seed)
    for row in run_methods(methods, cases, shifted, out / shift, seed=seed, profiles=profiles):
        yield shift, row


def _list_part(
    run: Callable[[Bench, Part], Iterator[tuple[str, Row]]], bench: Bench, part: Part
) -> list[tuple[str, Row]]:
    return list(run(bench, part))


def _free(recipe: Recipe) -> Recipe:
    """Let the guard read everything and refuse nothing."""
    margin = -1.0 if recipe.is_mirrored else None
    return recipe.changed(source_below=0.0, mirror_margin=margin, calibrated_for=None)


def shift_bench(bench: Bench, shift: str, *, seed: int = 0) -> Bench:
    """Let a bench see its images as another scanner would have made them.

    Args:
        bench: Its first preprocessing step must read the image.
        shift: One of `REAL_SHIFTS`.
        seed: Of what is drawn.

    Returns:
        Another bench; the same if the shift is ``none``.
    """
    if shift == "none":
        return bench
    read, *others = bench.preprocessing.transforms
    steps = [read, ShiftScannerd("image", shift=shift, seed=seed), *others]
    fingerprint = digest(bench=bench.fingerprint, shift=shift, seed=seed)
    return replace(bench, preprocessing=Compose(steps), fingerprint=fingerprint)


def to_scores(rows: Sequence[tuple[str, Row]]) -> tuple[Scores, dict[str, str]]:
    """Arrange rows as arrays.

    Returns:
        Scores, and the candidates left out because they refused a case, with the reason.
    """
    row_of = {(row.method, row.case, shift): row for shift, row in rows}
    cases = list(dict.fromkeys(row.case for _, row in rows))
    shifts = list(dict.fromkeys(shift for shift, _ in rows))
    refused = {row.method: row.refusal for _, row in rows if row.refusal}
    names = [n for n in dict.fromkeys(row.method for _, row in rows) if n not in refused]
    arrays = {n: np.array([[row_of[n, c, s].dice for s in shifts] for c in cases]) for n in names}
    guarded = dict.fromkeys(row.method for _, row in rows if row.light)
    agreements, mirror_gains = (
        {
            n: np.array([[getattr(row_of[n, c, s], key) for s in shifts] for c in cases])
            for n in guarded
            if n in names
        }
        for key in ("agreement", "mirror_gain")
    )
    return Scores(cases, shifts, arrays.pop("source"), arrays, agreements, mirror_gains), refused
