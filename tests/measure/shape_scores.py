r"""Do size and place of a mask, or its form, tell a useless mask of the organ?

Source cases under scanner shifts, one pass each; what a mask is held against are the labels of the
other source cases. AUC for a Dice below .7, .5 is chance, and rank correlation with the Dice; then
how far the profile's predicted Dice is off, cases left out in turn, with and without the form.

    python tests/measure/shape_scores.py --home RUNMC=PROMISE12/RUNMC --home UCL=PROMISE12/UCL \
        --only Case13 Case19 Case25 Case27 Case33 --precision bf16 \
        --weights S_BN.pt --set "network_def#norm_name=['batch',{}]"
"""

import argparse

import numpy as np
from scipy import stats

from grata_monai.adapt.losses import probabilities
from grata_monai.adapt.quality import predict_left_out
from grata_monai.adapt.signs import measure_signs
from grata_monai.experiments.calibrate.profile import leave_each_out, observe
from grata_monai.experiments.calibrate.search import shift_bench
from grata_monai.experiments.calibrate.shifts import REAL_SHIFTS
from grata_monai.experiments.harness.opening import open_bench
from grata_monai.experiments.harness.options import add_network_options, read_settings
from grata_monai.read.cases import list_cases

USELESS = 0.7  # Dice
SIGNS = ("organ", "shape", "entropy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", action="append", required=True, metavar="CENTRE=DIR")
    parser.add_argument("--only", nargs="*", metavar="CASE", help="whose masks are judged")
    parser.add_argument("--shifts", nargs="*", default=list(REAL_SHIFTS))
    add_network_options(parser)
    asked = parser.parse_args()
    bench = open_bench(asked.network, settings=read_settings(asked), unverified=asked.unverified)
    folders = [text.partition("=")[2] for text in asked.home]
    cases = [case for folder in folders for case in list_cases(folder, labels=True)]
    profiles = leave_each_out([observe(case, bench) for case in cases], bench)
    dice, signs, names = [], [], []
    for shift in asked.shifts:
        shifted = shift_bench(bench, shift)
        for case in cases:
            if asked.only and case["case"] not in asked.only:
                continue
            profile = profiles[case["case"]]
            prepared = shifted.prepare(case, profile=profile)
            episode = prepared.episode
            assert episode.source is not None
            assert episode.statistics is not None
            names.append(case["case"])
            dice.append(shifted.score(episode.source, prepared).dice)
            signs.append(
                measure_signs(
                    probabilities(episode.source, episode.activation),
                    None,
                    images=episode.images,
                    spacing=episode.spacing,
                    activation=episode.activation,
                    profile=profile,
                    shift=profile.shift(episode.statistics),
                )
            )
    is_useless = np.array(dice) < USELESS
    print(f"{len(dice)} masks, {is_useless.sum()} useless\n")
    print("| sign | AUC, mask useless | rank correlation with Dice |\n|---|---|---|")
    for name in SIGNS:
        values = np.array([row[name] for row in signs])
        bad, good = values[is_useless], values[~is_useless]
        auc = stats.mannwhitneyu(bad, good).statistic / max(len(bad) * len(good), 1)
        print(f"| {name} | {auc:.2f} | {stats.spearmanr(values, dice).statistic:+.2f} |")
    print("\n| predicted from | mean error of the Dice |\n|---|---|")
    kept = [{name: row[name] for name in row if name != "shape"} for row in signs]
    for text, rows in (("all but shape", kept), ("all", signs)):
        off = np.abs(predict_left_out(rows, dice, names) - np.array(dice))
        print(f"| {text} | {off.mean():.3f} |")


if __name__ == "__main__":
    main()
