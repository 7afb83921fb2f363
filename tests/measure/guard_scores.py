"""Which label-free score tells when the magnified views help, and which masks are useless?

Source cases under scanner shifts; for each the source network's pass and the magnified views of
the recipe `clinical`. Scores never see a label. AUC: .5 is chance. Then each score keeps the
source below a limit that is chosen on the other cases, and mean gain and harm are measured on
the case left out.

    python tests/measure/guard_scores.py PROMISE12 --only Case13 Case19 --precision bf16

    python tests/measure/guard_scores.py MSD_HIPPOCAMPUS --weights OUT/instance/model.pt

`PROMISE12` is a folder of centres, each with ``images/`` and ``labels/``. With ``--weights``, the
network is one of those that ``benchmark hippocampus --cases 8 --out OUT`` trained, and the cases
are those that it was calibrated on. Rows are kept in --out.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from grata_monai.adapt.equivariance import foreground_one_hot, overlap
from grata_monai.adapt.losses import probabilities
from grata_monai.adapt.multiscale import (
    MultiscalePrediction,
    ZoomedRoi,
    locate_organ,
    plan_rois,
    predict_rois,
)
from grata_monai.adapt.patches import plan_patches
from grata_monai.adapt.recipe import CLINICAL
from grata_monai.adapt.views import parse_view
from grata_monai.experiments.calibrate.search import shift_bench
from grata_monai.experiments.calibrate.shifts import check_shifts
from grata_monai.experiments.harness.bench import Bench, Prepared
from grata_monai.experiments.harness.opening import open_bench
from grata_monai.experiments.reproduce.hippocampus import hippocampus
from grata_monai.read.cases import list_cases

USELESS = 0.7  # Dice
GAMMAS = (0.7, 1.4)
ACTIVATION = "softmax"
FLIP = parse_view("flip:0")

Row = dict[str, float | str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="+", default=None)
    parser.add_argument("--shifts", nargs="+", default=[])
    parser.add_argument("--out", type=Path, default=Path("guard_scores"))
    parser.add_argument("--bundle", default="bundle")
    parser.add_argument("--weights", type=Path, help="of a network trained on hippocampi")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    settings: dict[str, Any] = {"precision": options.precision}
    if options.weights:
        named = options.weights.absolute().parent.name
        parts = hippocampus(options.data, cases=8, shifts=["none"], seed=options.seed)
        part = next(part for part in parts if part.name == named)
        settings |= {**part.settings, "network#weights": str(options.weights.absolute())}
        cases = [dict(case) for case in part.calibration]
    else:
        cases = list_cases(options.data, labels=True, only=options.only)
    bench = open_bench(options.bundle, settings=settings)
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for shift in check_shifts(options.shifts):
        shifted = shift_bench(bench, shift, seed=options.seed)
        for case in cases:
            path = options.out / f"{shift}_{case['case']}.json"
            if not path.exists():
                row = measure(shifted, shifted.prepare(case, seed=options.seed))
                path.write_text(json.dumps({"case": case["case"], "shift": shift, **row}))
            rows.append(json.loads(path.read_text()))
    print(to_table(rows))


def measure(bench: Bench, prepared: Prepared) -> Row:
    """Score one case, with and without its label."""
    source = probabilities(prepared.episode.source, ACTIVATION)
    row: Row = {"source": bench.score(prepared.episode.source, prepared).dice}
    location = locate_organ(source, ACTIVATION)
    if location is None:
        return {**row, "views": row["source"]}
    images = prepared.episode.images
    plan = plan_patches(bench.inferer, images.shape[2:])
    windows, _ = plan_rois(CLINICAL.multiscale.views, location, plan, images.shape[2:])
    seen = look_at(bench, images, windows)
    maps = torch.where(seen.seen > 0, seen.maps, source)
    row["views"] = bench.score(maps.clamp_min(1e-7).log(), prepared).dice
    bent = [(images.clamp(0, 1) ** gamma) for gamma in GAMMAS]
    own = seen.mirrored
    row["agreement of magnifications"] = seen.consistency
    row["flip agreement, views"] = own
    row["flip agreement, views - source"] = own - agree(
        source, FLIP.invert(predict(bench, FLIP.apply(images)))
    )
    changed = [look_at(bench, image, windows) for image in bent]
    views = np.mean([agree(seen.maps, other.maps) for other in changed])
    row["intensity agreement, views"] = float(views)
    row["intensity agreement, views - source"] = float(
        views - np.mean([agree(source, predict(bench, image)) for image in bent])
    )
    row["soft-Dice confidence, views"] = confidence(maps)
    row["soft-Dice confidence, views - source"] = confidence(maps) - confidence(source)
    row["mean entropy, source - views"] = (
        entropy(source).mean().item() - entropy(maps).mean().item()
    )
    row["balanced entropy, source - views"] = balanced(source) - balanced(maps)
    row["volume ratio to source"] = -abs(np.log((volume(maps) + 1) / (volume(source) + 1)))
    row["volume"] = volume(maps) * float(np.prod(prepared.episode.spacing or (1.0,)))
    return row


def look_at(bench: Bench, images: Tensor, windows: Sequence[ZoomedRoi]) -> MultiscalePrediction:
    return predict_rois(
        images,
        windows,
        [parse_view(name) for name in CLINICAL.prediction_views],
        lambda part: predict(bench, part),
        activation=ACTIVATION,
        sharpness=CLINICAL.multiscale.sharpness,
    )


def predict(bench: Bench, images: Tensor) -> Tensor:
    return probabilities(bench.predict(images, bench.network), ACTIVATION)


def agree(one: Tensor, two: Tensor) -> float:
    return float(
        overlap(foreground_one_hot(one, ACTIVATION), foreground_one_hot(two, ACTIVATION)).mean()
    )


def confidence(maps: Tensor) -> float:
    """Dice of the foreground's probabilities with their own mask."""
    soft = maps[:, 1:]
    mask = foreground_one_hot(maps, ACTIVATION).to(soft)
    return float(2 * (soft * mask).sum() / (soft.sum() + mask.sum()).clamp_min(1))


def entropy(maps: Tensor) -> Tensor:
    return -(maps * maps.clamp_min(1e-6).log()).sum(1)


def balanced(maps: Tensor) -> float:
    """Mean of the mean entropies inside and outside the mask."""
    inside = maps.argmax(1) > 0
    found = entropy(maps)
    parts = [found[where].mean() for where in (inside, ~inside) if bool(where.any())]
    return float(torch.stack(parts).mean())


def volume(maps: Tensor) -> float:
    return float((maps.argmax(1) > 0).sum())


def to_table(rows: Sequence[Row]) -> str:
    """AUC of every score, and what a guard with it would do to cases left out."""
    add_volume_prior(rows)
    names = [key for key in rows[-1] if key not in ("case", "shift", "source", "views", "volume")]
    source, views = (np.array([float(row[key]) for row in rows]) for key in ("source", "views"))
    gain = views - source
    cases = np.array([row["case"] for row in rows])
    arrays = {n: np.array([float(row.get(n, -np.inf)) for row in rows]) for n in names}
    first, second = names[0], "soft-Dice confidence, views"
    arrays[f"{first} + {second}"] = sum(stats.rankdata(arrays[n]) for n in (first, second))
    lines = [
        f"{len(set(cases))} cases, {len(rows)} cases × shifts: views gain {gain.mean():+.4f} "
        f"unguarded, harm {100 * (gain < -0.02).mean():.1f} %; {(views < USELESS).sum()} masks "
        f"below {USELESS}",
        "",
        "| score | AUC, views better | AUC, mask useful | gain | harm | source kept |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, score in arrays.items():
        kept = leave_out(score, gain, cases)
        lines.append(
            f"| {name} | {auc(score, gain > 0):.3f} | {auc(score, views >= USELESS):.3f} | "
            f"{np.where(kept, 0, gain).mean():+.4f} | "
            f"{100 * np.where(kept, False, gain < -0.02).mean():.1f} % | "
            f"{100 * kept.mean():.0f} % |"
        )
    return "\n".join(lines)


def add_volume_prior(rows: Sequence[Row]) -> None:
    """How near the volume lies to the other cases' unshifted ones."""
    for row in rows:
        others = [
            np.log(float(r["volume"]) + 1)
            for r in rows
            if r["shift"] == "none" and r["case"] != row["case"] and "volume" in r
        ]
        if "volume" in row and len(others) > 1:
            mean, spread = np.mean(others), np.std(others, ddof=1)
            row["volume prior"] = -float(abs(np.log(float(row["volume"]) + 1) - mean) / spread)


def auc(score: NDArray[np.float64], is_true: NDArray[np.bool_]) -> float:
    """Chance that a true one scores higher than a false one."""
    if is_true.all() or not is_true.any():
        return float("nan")
    value = stats.mannwhitneyu(score[is_true], score[~is_true]).statistic
    return float(value) / (is_true.sum() * (~is_true).sum())


def leave_out(
    score: NDArray[np.float64], gain: NDArray[np.float64], cases: NDArray[np.str_]
) -> NDArray[np.bool_]:
    """Say where the source is kept: below the limit that is best on the other cases."""
    kept = np.zeros(len(score), dtype=bool)
    for case in set(cases):
        mine = cases == case
        limits = np.unique(np.append(score[~mine], -np.inf))
        middles = np.append(limits[:1], (limits[1:] + limits[:-1]) / 2)
        gains = [np.where(score[~mine] < limit, 0, gain[~mine]).mean() for limit in middles]
        kept[mine] = score[mine] < middles[int(np.argmax(gains))]
    return kept


if __name__ == "__main__":
    main()
