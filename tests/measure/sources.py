r"""How well does a source network do before any adaptation, and under scanner shifts?

One pass per case: a row of a table that compares networks. The choice among sources is made by home
cases that no training saw, under simulated shifts; ``--foreign`` centres are shown beside, and
choose nothing.

    python tests/measure/sources.py --home RUNMC=PROMISE12/RUNMC --home UCL=PROMISE12/UCL \
        --only Case13 Case19 Case25 Case27 Case33 --precision bf16 \
        --foreign HK=PROMISE12/HK --foreign BIDMC=PROMISE12/BIDMC \
        --weights S_BN.pt --set "network_def#norm_name=['batch',{}]"
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

from grata_monai.experiments.calibrate.search import shift_bench
from grata_monai.experiments.calibrate.shifts import REAL_SHIFTS
from grata_monai.experiments.harness.bench import Bench
from grata_monai.experiments.harness.opening import open_bench
from grata_monai.experiments.harness.options import WEIGHTS, add_network_options, read_settings
from grata_monai.read.cases import list_cases

USELESS = 0.7  # Dice


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", action="append", required=True, metavar="CENTRE=DIR")
    parser.add_argument("--only", nargs="*", metavar="CASE", help="of home")
    parser.add_argument("--foreign", action="append", default=[], metavar="CENTRE=DIR")
    parser.add_argument("--shifts", nargs="*", default=[s for s in REAL_SHIFTS if s != "none"])
    add_network_options(parser)
    asked = parser.parse_args()
    settings = read_settings(asked)
    bench = open_bench(asked.network, settings=settings, unverified=asked.unverified)
    found = {"as they are": list(score(asked.home, bench, asked.only))}
    for shift in asked.shifts:
        found[shift] = list(score(asked.home, shift_bench(bench, shift), asked.only))
    shifted = [dice for shift in asked.shifts for dice in found[shift]]
    found["all shifts"] = shifted
    found |= {text.partition("=")[0]: list(score([text], bench)) for text in asked.foreign}
    useless = sum(dice < USELESS for dice in shifted)
    name = Path(str(settings.get(WEIGHTS, asked.network))).stem
    print(f"| network | {' | '.join(found)} | useless under shifts |\n|{'---|' * (len(found) + 2)}")
    cells = " | ".join(f"{fmean(dice):.3f}" for dice in found.values())
    print(f"| `{name}` | {cells} | {useless} of {len(shifted)} |")


def score(
    folders: Sequence[str], bench: Bench, only: Sequence[str] | None = None
) -> Iterator[float]:
    """Dice of the source's pass over the cases of ``CENTRE=DIR``."""
    for text in folders:
        for item in list_cases(text.partition("=")[2], labels=True):
            if not only or item["case"] in only:
                prepared = bench.prepare(item)
                assert prepared.episode.source is not None
                yield bench.score(prepared.episode.source, prepared).dice


if __name__ == "__main__":
    main()
