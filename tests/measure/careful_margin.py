"""How careful must the guard be on a network that nobody calibrated?

Reads what calibrations left, of several networks, and lets the recipe `clinical` meet their source
cases with its own limit of agreement and each margin in turn. Nothing is predicted again.

    python tests/measure/careful_margin.py OUT/instance/calibration OUT/batch/calibration

Each folder is one that ``calibrate`` or ``benchmark`` made beside its ``calibration.json``.
"""

import argparse
from pathlib import Path

import numpy as np

from grata_monai.adapt.recipe import CLINICAL
from grata_monai.experiments.calibrate.search import to_scores
from grata_monai.experiments.compare.statistics import HARM
from grata_monai.experiments.harness.run import read_rows

MARGINS = (-np.inf, -0.02, -0.01, 0.0, 0.005, 0.01, 0.02)
CANDIDATE = "views-and-fixed-steps"  # the settings of `clinical`


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("calibrations", type=Path, nargs="+")
    for folder in parser.parse_args().calibrations:
        print(f"\n{folder}\n\n{to_table(folder)}")


def to_table(folder: Path) -> str:
    """Gain, harm and worst loss over cases and shifts, by margin."""
    shifts = sorted(path.name for path in folder.iterdir() if (path / "rows").is_dir())
    scores, _ = to_scores([(shift, row) for shift in shifts for row in read_rows(folder / shift)])
    gains = scores.candidates[CANDIDATE] - scores.source
    is_trusted = scores.agreements[CANDIDATE] >= CLINICAL.guard.source_below
    lines = ["| margin | gain | harm | worst | source kept |", "| --- | --- | --- | --- | --- |"]
    for margin in MARGINS:
        is_used = is_trusted & (scores.mirror_gains[CANDIDATE] >= margin)
        left = np.where(is_used, gains, 0.0)
        lines.append(
            f"| {margin:g} | {left.mean():+.4f} | {100 * (left < -HARM).mean():.1f} % | "
            f"{left.min():+.3f} | {100 * (1 - is_used.mean()):.0f} % |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
