"""Measure the peak memory of a recipe beside the plain network's, with many classes.

python tests/measure/memory.py [--side 256] [--classes 105] [--window 96] [--recipe clinical]

Prints the peaks of two processes above what they held before, in units of one prediction, and their
quotient. At 105 classes and a side of 256 one prediction has 7 GiB: the machine needs twice that.
"""

import argparse
import subprocess
import sys

import torch
from monai.inferers import SlidingWindowInferer
from torch import nn

from grata_monai import GraTaInferer, Record
from grata_monai.experiments.harness.cost import measured

HOURS = 24 * 3600  # a case has an hour elsewhere, which four large organs may not keep on a CPU


def make_image(side: int) -> torch.Tensor:
    """Make a cube with eight bright blocks, as large as organs are in a window of a third."""
    image = 0.1 * torch.rand(1, 1, side, side, side, generator=torch.Generator().manual_seed(0))
    ends = [slice(side // 8, side // 4), slice(5 * side // 8, 6 * side // 8)]
    for number, block in enumerate((x, y, z) for x in ends for y in ends for z in ends):
        image[(0, 0, *block)] += 0.2 + 0.1 * number
    return image


def make_network(classes: int) -> nn.Module:
    """Make a network of hardly any weights that tells brightnesses apart."""
    torch.manual_seed(0)
    last = nn.Conv3d(4, classes, 1)
    with torch.no_grad():
        last.bias[0] += 1
    return nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.InstanceNorm3d(4, affine=True), last)


def measure(side: int, classes: int, window: int, recipe: str) -> float:
    """Run one case; return the peak in bytes and print the record's outcome."""
    image, network = make_image(side), make_network(classes).eval()
    inferer = SlidingWindowInferer((window,) * 3, overlap=0.25)
    with torch.no_grad(), measured(torch.device("cpu")) as cost:
        if recipe == "plain":
            inferer(image, network)
        else:
            pred = GraTaInferer(inferer, recipe, case_seconds=HOURS)(image, network)
            record = Record.from_json(pred.meta["grata"])
            print(record.outcome, record.verdict.light, record.organs.way, file=sys.stderr)
            print([entry.reason for entry in record.organs.entries], file=sys.stderr)
            print({k: round(v) for k, v in record.seconds.items()}, file=sys.stderr)
    return cost.peak_bytes


def main() -> None:
    """Measure plain and recipe, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--classes", type=int, default=105)
    parser.add_argument("--window", type=int, default=96)
    parser.add_argument("--recipe", default="clinical")
    parser.add_argument("--alone", action="store_true", help="measure this process only")
    given = parser.parse_args()
    if given.alone:
        print(measure(given.side, given.classes, given.window, given.recipe))
        return
    size = 4 * given.classes * given.side**3
    peaks = {}
    for recipe in ("plain", given.recipe):
        options = [f"--{key}={getattr(given, key)}" for key in ("side", "classes", "window")]
        command = [sys.executable, __file__, "--alone", *options, f"--recipe={recipe}"]
        peaks[recipe] = float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        print(f"{recipe}: {peaks[recipe] / 2**30:.2f} GiB, {peaks[recipe] / size:.2f} predictions")
    print(f"quotient: {peaks[given.recipe] / peaks['plain']:.2f}")


if __name__ == "__main__":
    main()
