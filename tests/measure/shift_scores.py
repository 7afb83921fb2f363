r"""Which score of a single pass tells a foreign case, and a useless mask?

Source cases (each compared with the others), the same under scanner shifts, and cases of other
centres. AUC: .5 is chance. No score sees a label.

    python tests/measure/shift_scores.py --home RUNMC=PROMISE12/RUNMC --home UCL=PROMISE12/UCL \
        --foreign HK=PROMISE12/HK --foreign BIDMC=PROMISE12/BIDMC --precision bf16 \
        --weights S_BN.pt --set "network_def#norm_name=['batch',{}]"
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from torch.nn.modules.batchnorm import _BatchNorm

from grata_monai.adapt.losses import probabilities
from grata_monai.adapt.profile import describe_image, profile_layers
from grata_monai.adapt.signs import measure_entropy
from grata_monai.experiments.calibrate.search import shift_bench
from grata_monai.experiments.harness.bench import Bench
from grata_monai.experiments.harness.opening import open_bench
from grata_monai.experiments.harness.options import add_network_options, read_settings
from grata_monai.read.cases import list_cases

USELESS = 0.7  # Dice
NEIGHBOURS = 3
Values = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Look:
    """What one pass over one case gave."""

    case: str
    group: str
    layers: Values
    image: Values
    entropy: float
    dice: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", action="append", required=True, metavar="CENTRE=DIR")
    parser.add_argument("--foreign", action="append", default=[], metavar="CENTRE=DIR")
    parser.add_argument("--shifts", nargs="*", default=["hot_spot", "contrast"])
    add_network_options(parser)
    arguments = parser.parse_args()
    bench = open_bench(
        arguments.network, settings=read_settings(arguments), unverified=arguments.unverified
    )
    home = [look for text in arguments.home for look in look_at(text, bench, "home")]
    others = [look for text in arguments.foreign for look in look_at(text, bench)]
    for shift in arguments.shifts:
        shifted = shift_bench(bench, shift)
        others += [look for text in arguments.home for look in look_at(text, shifted, shift)]
    print_table(home, others, make_scores(bench))


def look_at(text: str, bench: Bench, group: str = "") -> list[Look]:
    """Pass the cases of ``CENTRE=DIR`` through the network."""
    centre, _, folder = text.partition("=")
    found = []
    for item in list_cases(folder, labels=True):
        prepared = bench.prepare(item, is_probed=True)
        episode = prepared.episode
        assert episode.source is not None
        assert episode.statistics is not None
        maps = probabilities(episode.source, episode.activation)
        found.append(
            Look(
                item["case"],
                group or centre,
                episode.statistics,
                describe_image(episode.images, episode.spacing),
                measure_entropy(maps, episode.activation),
                bench.score(episode.source, prepared).dice,
            )
        )
    return found


Score = Callable[[Look, Sequence[Look]], float]


def make_scores(bench: Bench) -> dict[str, Score]:
    """Name to score of a look beside source cases; the larger, the more foreign."""
    norms = {n: m for n, m in bench.network.named_modules() if isinstance(m, _BatchNorm)}
    found: dict[str, Score] = {
        "layers, median of root mean squares (the profile's)": standardised(np.median),
        "layers, mean of squares": standardised(lambda d: np.sqrt(np.mean(np.square(d)))),
        "layers, Mahalanobis with shrinkage": lambda look, home: mahalanobis(
            np.concatenate(list(look.layers.values())),
            np.stack([np.concatenate(list(h.layers.values())) for h in home]),
        ),
        "bottleneck, nearest neighbours": nearest,
        "intensities": lambda look, home: distances(look.image, [h.image for h in home])[0],
        "entropy in the source mask": lambda look, home: look.entropy,
    }
    if norms:
        found["layers, divergence from running statistics"] = lambda look, home: divergence(
            look.layers, norms
        )
    return found


def standardised(combine: Callable[[NDArray[np.float64]], float]) -> Score:
    return lambda look, home: float(
        combine(np.array(distances(look.layers, [h.layers for h in home])))
    )


def distances(values: Values, home: Sequence[Values]) -> list[float]:
    layers, _ = profile_layers(home)
    return [layer.distance(values[name]) for name, layer in layers.items()]


def mahalanobis(values: NDArray[np.float64], home: NDArray[np.float64]) -> float:
    """Shrunk towards the identity as Chen et al. do (OAS, IEEE TSP 2010), in the cases' span."""
    n, p = home.shape
    centred = home - home.mean(0)
    gram = centred @ centred.T / n
    trace, square = gram.trace(), (gram**2).sum()
    rho = min(1.0, ((1 - 2 / p) * square + trace**2) / ((n + 1 - 2 / p) * (square - trace**2 / p)))
    ridge = rho * trace / p
    away = values - home.mean(0)
    inside = np.linalg.solve(ridge * np.eye(n) + (1 - rho) * gram, (1 - rho) / n * (centred @ away))
    return float((away @ away - (centred @ away) @ inside) / ridge)


def nearest(look: Look, home: Sequence[Look]) -> float:
    name = max(look.layers, key=lambda layer: len(look.layers[layer]))
    away = sorted(float(np.linalg.norm(look.layers[name] - h.layers[name])) for h in home)
    return float(np.mean(away[:NEIGHBOURS]))


def divergence(values: Values, norms: Mapping[str, _BatchNorm]) -> float:
    """Mean over channels of KL(image ‖ running), both normal."""
    found = []
    for name, layer in norms.items():
        mean, logarithm = np.split(values[name], 2)
        assert layer.running_mean is not None
        assert layer.running_var is not None
        known, spread = (v.double().cpu().numpy() for v in (layer.running_mean, layer.running_var))
        ratio = np.exp(logarithm) / spread
        found.append(0.5 * (ratio - np.log(ratio) - 1 + (mean - known) ** 2 / spread))
    return float(np.concatenate(found).mean())


def print_table(home: list[Look], others: list[Look], scores: Mapping[str, Score]) -> None:
    groups = list(dict.fromkeys(look.group for look in others))
    useless = np.array([look.dice < USELESS for look in [*home, *others]])
    heads = [f"AUC, {group}" for group in groups]
    print(f"{len(home)} source cases, {len(others)} others, {useless.sum()} masks useless\n")
    print(f"| score | {' | '.join(heads)} | AUC, mask useless |\n|---|{'---|' * (len(heads) + 1)}")
    for name, score in scores.items():
        at_home = [score(a, [b for b in home if b is not a]) for a in home]
        away = [score(a, [b for b in home if b.case != a.case]) for a in others]
        cells = [
            auc(at_home, [v for v, look in zip(away, others, strict=True) if look.group == group])
            for group in groups
        ]
        every = np.array([*at_home, *away])
        cells.append(auc(every[~useless], every[useless]))
        print(f"| {name} | {' | '.join(f'{cell:.2f}' for cell in cells)} |")


def auc(low: Sequence[float], high: Sequence[float]) -> float:
    """Share of pairs in which the second is larger; ties count half."""
    if not len(low) or not len(high):
        return float("nan")
    return float(stats.mannwhitneyu(high, low).statistic / (len(low) * len(high)))


if __name__ == "__main__":
    main()
