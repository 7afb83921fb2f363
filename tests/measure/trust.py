r"""What a recipe with its source profile is worth: should a hospital switch it on?

Reads the rows that `compare` left, of one or more networks: the source, the flip average, what is
judged, and further candidates that a choice which knows the label may take.

    python tests/measure/trust.py --rows NETWORK=OUT --home RUNMC UCL --judged grata-clinical
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from grata_monai.experiments.compare.statistics import HARM
from grata_monai.experiments.harness.run import Row, read_rows

USELESS = 0.7  # Dice
FLIP = "clinical-no-focus-no-step"
Rows = Mapping[str, Mapping[str, Row]]  # method to case to row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", action="append", required=True, metavar="NETWORK=OUT")
    parser.add_argument("--home", nargs="+", default=[], metavar="CENTRE")
    parser.add_argument("--judged", default="grata-clinical", metavar="METHOD")
    arguments = parser.parse_args()
    networks = dict(text.split("=", 1) for text in arguments.rows)
    tables = {name: read_table(Path(folder)) for name, folder in networks.items()}
    judge = arguments.judged
    print("| " + " | ".join(["", *tables, "all"]) + " |")
    print("| --- " * (len(tables) + 2) + "|")
    home = set(arguments.home)
    for heading, measure in MEASURES.items():
        cells = [measure([table], judge, home) for table in tables.values()]
        cells.append(measure(list(tables.values()), judge, home))
        print(f"| {heading} | {' | '.join(cells)} |")


def read_table(folder: Path) -> Rows:
    """Arrange rows by method and case; only cases that every method has."""
    found: dict[str, dict[str, Row]] = {}
    for row in read_rows(folder):
        if not row.refusal:
            found.setdefault(row.method, {})[row.case] = row
    common = set.intersection(*(set(rows) for rows in found.values()))
    return {name: {c: rows[c] for c in sorted(common)} for name, rows in found.items()}


def pick(tables: Sequence[Rows], method: str, home: set[str], *, at_home: bool) -> list[Row]:
    """Rows of a method, at home or elsewhere, network by network in the order of cases."""
    return [
        row for table in tables for row in table[method].values() if (row.centre in home) == at_home
    ]


def gains(
    tables: Sequence[Rows], method: str, home: set[str], *, at_home: bool, over: str = "source"
) -> NDArray[np.float64]:
    """Dice of a method minus another's, case by case."""
    one, two = (pick(tables, name, home, at_home=at_home) for name in (method, over))
    return np.array([a.dice - b.dice for a, b in zip(one, two, strict=True)])


def write_cases(tables: Sequence[Rows], judge: str, home: set[str]) -> str:
    inside, outside = (len(pick(tables, judge, home, at_home=side)) for side in (True, False))
    return f"{inside} / {outside}"


def write_false_green(tables: Sequence[Rows], judge: str, home: set[str]) -> str:
    green = [r for t in tables for r in t[judge].values() if r.light == "green"]
    return f"{sum(r.dice < USELESS for r in green)} of {len(green)}"


def write_false_red(tables: Sequence[Rows], judge: str, home: set[str]) -> str:
    red = [r for t in tables for r in t[judge].values() if r.light == "red"]
    return f"{sum(r.dice > 0.85 for r in red)} of {len(red)}"


def write_auc(tables: Sequence[Rows], judge: str, home: set[str]) -> str:
    """Chance that a useless mask is predicted lower than a useful one."""
    rows = [r for t in tables for r in t[judge].values() if np.isfinite(r.predicted)]
    low = [r.predicted for r in rows if r.dice < USELESS]
    high = [r.predicted for r in rows if r.dice >= USELESS]
    if not low or not high:
        return "–"
    return f"{stats.mannwhitneyu(high, low).statistic / (len(low) * len(high)):.2f}"


def write_home(tables: Sequence[Rows], judge: str, home: set[str]) -> str:
    return write_harm(gains(tables, judge, home, at_home=True))


def write_foreign(tables: Sequence[Rows], judge: str, home: set[str]) -> str:
    return write_harm(gains(tables, judge, home, at_home=False))


def write_harm(values: NDArray[np.float64]) -> str:
    if not len(values):
        return "–"
    return f"{values.mean():+.3f}; {(values < -HARM).sum()} of {len(values)}; {values.min():+.3f}"


def write_oracle(tables: Sequence[Rows], judge: str, home: set[str]) -> str:
    """Share of the gain on foreign cases that a choice among all methods reaches."""
    reached = gains(tables, judge, home, at_home=False).sum()
    best = 0.0
    for table in tables:
        columns = [gains([table], name, home, at_home=False) for name in table]
        best += float(np.max(columns, axis=0).sum())
    return f"{100 * reached / best:.0f} %" if best > 0 else "–"


def write_over_flip(tables: Sequence[Rows], judge: str, home: set[str]) -> str:
    """Mean gain over the flip average on foreign cases, and its p by Wilcoxon's signed ranks."""
    if any(FLIP not in table for table in tables):
        return "–"
    values = gains(tables, judge, home, at_home=False, over=FLIP)
    if len(values) < 6:
        return f"{values.mean():+.3f}"
    return f"{values.mean():+.3f}, p {stats.wilcoxon(values, zero_method='zsplit').pvalue:.3f}"


def write_seconds(tables: Sequence[Rows], judge: str, home: set[str]) -> str:
    """Median over cases at home of the time over the source's."""
    one, two = (pick(tables, name, home, at_home=True) for name in (judge, "source"))
    ratios = [a.seconds / b.seconds for a, b in zip(one, two, strict=True)]
    return f"{np.median(ratios):.1f}" if ratios else "–"


MEASURES = {
    "cases, home / foreign": write_cases,
    "green and Dice below .7": write_false_green,
    "red and Dice above .85": write_false_red,
    "AUC of the predicted Dice for a Dice below .7": write_auc,
    "home: gain; harmed; worst": write_home,
    "foreign: gain; harmed; worst": write_foreign,
    "share of the best choice's gain": write_oracle,
    "over the flip average, foreign": write_over_flip,
    "time ÷ source, home, median": write_seconds,
}


if __name__ == "__main__":
    main()
