r"""When is a network with batch normalisation better on the image's own statistics?

Source cases under scanner shifts: the source's pass, and the average of mirrored predictions on the
image's own statistics, kept where these agree better by some margin and have less entropy inside
the mask. No target case is looked at.

    python tests/measure/own_statistics.py --home RUNMC=PROMISE12/RUNMC --home UCL=PROMISE12/UCL \
        --only Case13 Case19 --shifts none hot_spot --precision bf16 \
        --weights S_BN.pt --set "network_def#norm_name=['batch',{}]"
    python tests/measure/own_statistics.py --benchmark fundus --data FUNDUS --models OUT \
        --precision bf16

``OUT`` is a folder of ``python -m grata_monai benchmark fundus --data FUNDUS --out OUT``: its
networks meet the cases that it calibrates on.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from grata_monai.adapt.losses import to_logits
from grata_monai.adapt.mirrored import measure_mirrored, predict_mirrored
from grata_monai.adapt.network import copy_network
from grata_monai.adapt.recipe import CLINICAL
from grata_monai.adapt.signs import measure_entropy
from grata_monai.adapt.source import predict_source
from grata_monai.adapt.statistics import mix_statistics
from grata_monai.experiments.calibrate.search import shift_bench
from grata_monai.experiments.calibrate.shifts import REAL_SHIFTS
from grata_monai.experiments.compare.statistics import HARM
from grata_monai.experiments.harness.bench import Bench
from grata_monai.experiments.harness.opening import open_bench
from grata_monai.experiments.harness.options import WEIGHTS, add_network_options, read_settings
from grata_monai.experiments.reproduce.fundus import fundus
from grata_monai.experiments.reproduce.hippocampus import hippocampus
from grata_monai.read.cases import list_cases

MARGINS = (0.0, 0.01, 0.02, 0.05)
PARTS = {"fundus": fundus, "hippocampus": hippocampus}


@dataclass(frozen=True)
class Look:
    """Gain of the image's statistics over the source's pass, and how much surer they are."""

    gain: float
    surer_by: float
    entropy_falls: bool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", action="append", default=[], metavar="CENTRE=DIR")
    parser.add_argument("--only", nargs="*", metavar="CASE")
    parser.add_argument("--benchmark", choices=PARTS)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--models", type=Path, metavar="OUT")
    parser.add_argument("--shifts", nargs="*", default=list(REAL_SHIFTS))
    add_network_options(parser)
    asked = parser.parse_args()
    for name, bench, cases in open_all(asked):
        print_table(name, [look for s in asked.shifts for look in look_at(cases, bench, s)])


def open_all(
    asked: argparse.Namespace,
) -> Iterator[tuple[str, Bench, Sequence[Mapping[str, str]]]]:
    settings = read_settings(asked)
    if not asked.benchmark:
        bench = open_bench(asked.network, settings=settings, unverified=asked.unverified)
        folders = [text.partition("=")[2] for text in asked.home]
        cases = [c for f in folders for c in list_cases(f, labels=True)]
        if asked.only:
            cases = [c for c in cases if c["case"] in asked.only]
        yield str(settings.get(WEIGHTS, "network")), bench, cases
        return
    for part in PARTS[asked.benchmark](asked.data, cases=1, shifts=["none"], seed=0):
        weights = asked.models / part.name / "model.pt"
        if weights.exists():
            given = {**settings, **part.settings, WEIGHTS: str(weights)}
            yield part.name, open_bench(asked.network, settings=given), part.calibration


def look_at(cases: Sequence[Mapping[str, str]], bench: Bench, shift: str) -> Iterator[Look]:
    """Predict every case under a shift, on either statistics."""
    shifted = shift_bench(bench, shift)
    for item in cases:
        prepared = shifted.prepare(item)
        source, episode = predict_source(bench.network, prepared.episode)
        recipe = episode.recipe.changed(prediction_views=CLINICAL.prediction_views)
        episode = replace(episode, recipe=recipe)
        copied = copy_network(bench.network)
        mix_statistics(copied, 1.0)
        both = [predict_mirrored(source, episode, network) for network in (None, copied)]
        agree = [measure_mirrored(maps, source.activation) for maps in both]
        means = [torch.stack(maps).mean(0) for maps in both]
        entropies = [measure_entropy(mean, source.activation) for mean in means]
        own = bench.score(to_logits(means[1], source.activation), prepared).dice
        plain = bench.score(source.logits, prepared).dice
        yield Look(own - plain, agree[1] - agree[0], entropies[1] < entropies[0])


def print_table(name: str, looks: Sequence[Look]) -> None:
    gains = np.array([look.gain for look in looks])
    print(f"\n{Path(name).stem}, {len(looks)} cases and shifts\n")
    print("| kept where surer by | kept | gain | harmed | worst |\n|---|---|---|---|---|")
    rules = {"always": np.full(len(looks), True), "with the label": gains > 0}
    for margin in MARGINS:
        rules[f"{margin:g}"] = np.array([k.surer_by >= margin and k.entropy_falls for k in looks])
    for rule, is_kept in rules.items():
        left = np.where(is_kept, gains, 0.0)
        print(
            f"| {rule} | {100 * is_kept.mean():.0f} % | {left.mean():+.3f} | "
            f"{(left < -HARM).sum()} | {left.min():+.3f} |"
        )


if __name__ == "__main__":
    main()
