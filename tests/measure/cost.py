"""What adaptation costs: time and peak memory as ratios to the plain prediction, in one run.

``python tests/measure/cost.py [--device cuda:0] [--repeats N]``

Each way of predicting the same phantom with the bundle's network runs in a process of its own, in
turn, so that peak memory is its own and a drift of the machine's speed meets all alike. Memory is
the process's peak above what it held before the first prediction; on CUDA, of the allocator.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from grata_monai import GraTaInferer, resolve_recipe
from grata_monai.bundle import open_bundle
from grata_monai.phantom import make_case

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"
FLIPS = list(product((False, True), repeat=3))
WAYS = {
    "plain": "source",
    "8 flips": {
        "base": "source",
        "name": "8 flips",
        "prediction_views": [
            "flip:" + ",".join(str(i) for i, is_flipped in enumerate(axes) if is_flipped)
            if any(axes)
            else "identity"
            for axes in FLIPS
        ],
    },
    "paper": "paper",
    "clinical": "clinical",
    "clinical, organ searched": {"base": "clinical", "name": "searched", "search_below": 1.0},
    "clinical, no step": {"base": "clinical", "name": "views", "steps": 0},
}


def run_way(way: str, device: torch.device, repeats: int) -> dict[str, float]:
    """Predict one phantom `repeats` times after a warm-up; median seconds and peak bytes."""
    bundle = open_bundle(BUNDLE, settings={"recipe": WAYS[way], "device#name": str(device)})
    network, inferer = bundle.network, bundle.get("inferer")
    image = prepare_image().to(device)
    before = peak_memory(device)
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        predict(inferer, image, network, device)
        times.append(time.perf_counter() - start)
    return {"seconds": median(times[1:]), "bytes": peak_memory(device) - before}


def predict(inferer: GraTaInferer, image: Tensor, network: nn.Module, device: torch.device) -> None:
    """Predict, and wait until the device is done."""
    inferer(image, network)
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def prepare_image() -> Tensor:
    """A phantom of 192 mm × 192 mm × 72 mm on the bundle's grid of 1 × 1 × 3 mm, in [0, 1]."""
    case = make_case(0, spacing=(1.0, 1.0, 3.0), spatial_shape=(192, 192, 24), orientation="RAS")
    image = torch.from_numpy(case.image)[None, None]
    return (image / image.quantile(0.995)).clamp(0, 1)


def peak_memory(device: torch.device) -> int:
    """Peak bytes so far, of this process or of the CUDA allocator."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Run every way and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        found = run_way(arguments.way, torch.device(arguments.device), arguments.repeats)
        print(json.dumps(found))
        return
    results = {}
    for way, recipe in WAYS.items():
        resolve_recipe(recipe)
        command = [sys.executable, __file__, "--way", way, "--device", arguments.device]
        command += ["--repeats", str(arguments.repeats)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        results[way] = json.loads(done.stdout.splitlines()[-1])
    print(describe(results, arguments.device))


def describe(results: dict[str, dict[str, float]], device: str) -> str:
    """Format the ratios as a Markdown table."""
    where = f"{torch.get_num_threads()} threads, {platform.processor() or platform.machine()}"
    where = torch.cuda.get_device_name(device) if device.startswith("cuda") else where
    plain, flips = results["plain"], results["8 flips"]
    lines = [
        f"{device}: {where}, torch {torch.__version__}",
        "",
        "| way | time ÷ plain | time ÷ 8 flips | peak memory ÷ plain |",
        "|---|---|---|---|",
    ]
    for way, found in results.items():
        lines.append(
            f"| {way} | {found['seconds'] / plain['seconds']:.2f} "
            f"| {found['seconds'] / flips['seconds']:.2f} "
            f"| {found['bytes'] / plain['bytes']:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
