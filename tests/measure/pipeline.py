"""Measure a folder of cases end to end: wall time, how busy the device is, and peak memory.

``python tests/measure/pipeline.py --out pipeline/ [--cases 200] [--device cuda:0] [--shift none]``

Half of the phantoms are NIfTI files, half DICOM series; with ``--images DIR`` the NIfTI images of
a folder take their place, such as cases of the network's own hospitals. Each way of segmenting
them runs in a process of its own, imports left out: ``stock``, MONAI's parts alone, as a bundle of
its zoo has them, at the bundle's spacing and window, without adaptation, record or check;
``source``, the shipped bundle without adaptation; ``8 flips``, the mirroring of nnU-Net's predictor
on the same network; ``clinical``; and ``clinical, serial``, which does not predict while it writes.
nnU-Net's own predictor is left out: it wants a plans file of its own training, which this network
has not.

Device-busy is the share of wall time inside inference and adaptation; on a GPU between CUDA events
around them. Seconds per case lie between the end of one case and that of the next. Processor
seconds, of child processes too, hold also where something else runs. ``waterfall.png`` draws when
the first cases were read, predicted, written and reported.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from ignite.engine import Events
from matplotlib.figure import Figure
from monai.data import Dataset, ThreadDataLoader
from monai.engines import SupervisedEvaluator
from monai.engines.utils import IterationEvents
from monai.inferers import SlidingWindowInferer
from monai.transforms import (
    AsDiscreted,
    Compose,
    EnsureChannelFirstd,
    Invertd,
    KeepLargestConnectedComponentd,
    LoadImaged,
    Orientationd,
    SaveImaged,
    ScaleIntensityRangePercentilesd,
    Spacingd,
)

from grata_monai.bundle.open import open_bundle
from grata_monai.experiments.harness.cost import measured
from grata_monai.hosts.python_dicom import open_dicom, run_dicom
from grata_monai.phantom import SHIFTS, make_case, write_cases
from grata_monai.phantom.dicom import SeriesOptions, write_nifti_as_series, write_series
from grata_monai.write.resume import run_cases

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"
FLIPS = ["identity", "flip:0", "flip:1", "flip:2", "flip:0,1", "flip:0,2", "flip:1,2", "flip:0,1,2"]
WAYS: dict[str, dict[str, Any]] = {
    "stock": {},
    "source": {"recipe": "source"},
    "8 flips": {"recipe": {"base": "source", "name": "8 flips", "prediction_views": FLIPS}},
    "clinical": {"recipe": "clinical"},
    "clinical, serial": {"recipe": "clinical", "evaluator#_target_": "SupervisedEvaluator"},
}
STAGES = ("read", "predict", "write", "report")
DRAWN = 12  # cases in a picture


class Watch:
    """When every stage of every case began and ended, in seconds since the watch was made.

    Attributes:
        spans: Stage to the beginnings and ends, in order.
        marks: Pairs of CUDA events around every prediction.
    """

    def __init__(self, device: torch.device) -> None:
        self.spans: dict[str, list[list[float]]] = {stage: [] for stage in STAGES}
        self.marks: list[tuple[Any, Any]] = []
        self.device, self.start = device, time.perf_counter()

    def attach(self, engine: Any) -> None:
        """Watch an evaluator; its own handlers come first, so that their end is seen."""
        engine.inferer = partial(self._predict, engine.inferer)
        dataset = engine.data_loader.dataset
        dataset.transform = partial(self._read, dataset.transform)
        forward = getattr(IterationEvents, "FORWARD_COMPLETED")  # noqa: B009  # ignite makes it
        done = getattr(IterationEvents, "MODEL_COMPLETED")  # noqa: B009
        engine.add_event_handler(forward, lambda: self._begin("write"))
        engine.add_event_handler(done, lambda: (self._end("write"), self._begin("report")))
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: self._end("report"))

    def _begin(self, stage: str) -> None:
        self.spans[stage].append([time.perf_counter() - self.start])

    def _end(self, stage: str) -> None:
        self.spans[stage][-1].append(time.perf_counter() - self.start)

    def _read(self, transform: Callable[[Any], Any], item: Any) -> Any:
        self._begin("read")
        try:
            return transform(item)
        finally:
            self._end("read")

    def _predict(self, inferer: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._begin("predict")
        try:
            with self._marked():
                return inferer(*args, **kwargs)
        finally:
            self._end("predict")

    @contextmanager
    def _marked(self) -> Iterator[None]:
        if self.device.type != "cuda":
            yield
            return
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        yield
        last.record()
        self.marks.append((first, last))

    def busy_seconds(self) -> float:
        """Seconds inside inference and adaptation."""
        if self.device.type != "cuda":
            return sum(end - start for start, end in self.spans["predict"])
        torch.cuda.synchronize(self.device)
        return sum(first.elapsed_time(last) for first, last in self.marks) / 1000


def write_phantoms(folder: Path, cases: int, shift: str, shape: tuple[int, ...]) -> None:
    """Write half of the cases as NIfTI, the others as DICOM series, each of another patient."""
    write_cases(folder, cases=cases - cases // 2, shift=shift, spatial_shape=shape)
    for seed in range(cases - cases // 2, cases):
        case = make_case(seed, shift=shift, spatial_shape=shape)
        options = SeriesOptions(seed=seed)
        write_series(folder / "dicom" / f"{seed:04}", case.image, case.affine_ras, options=options)


def copy_images(folder: Path, cases: int, images: Path) -> None:
    """Take the first images of a folder: half of them as they are, the others as DICOM series."""
    paths = sorted(images.glob("*.nii.gz"))[:cases]
    if len(paths) < cases:
        raise ValueError(f"--images must hold {cases} images, it holds {len(paths)}.")
    (folder / "images").mkdir(parents=True)
    for number, path in enumerate(paths):
        if number % 2 == 0:
            shutil.copy(path, folder / "images")
        else:
            series = folder / "dicom" / f"{number:04}"
            write_nifti_as_series(path, series, options=SeriesOptions(seed=number))


def run_ours(folder: Path, out: Path, settings: dict[str, Any], watch: Watch) -> int:
    """Segment images, then series, as the command line does; return how many are done."""
    places = {"dataset_dir": str(folder / "images"), "output_dir": str(out / "nifti")}
    bundle = open_bundle(BUNDLE, (), {**settings, **places}, unverified=True)
    engine, pending = bundle.get("evaluator"), bundle.get("pending")
    watch.attach(engine)
    run_cases(engine, cases=pending, pending=pending, output_dir=out / "nifti")
    bundle = open_dicom(
        folder / "dicom", out / "dicom", bundle_dir=BUNDLE, settings=settings, unverified=True
    )
    watch.attach(bundle.get("evaluator"))
    done = run_dicom(bundle, out / "dicom")
    return len(list((out / "nifti").glob("*_seg.nii.gz"))) + len(done.results)


def run_stock(folder: Path, out: Path, device: torch.device, watch: Watch) -> int:
    """Segment the same cases by MONAI alone; masks of series are NIfTI too."""
    bundle = open_bundle(BUNDLE, (), {"device#name": str(device)}, unverified=True)
    preprocessing = Compose(
        [
            LoadImaged("image"),
            EnsureChannelFirstd("image"),
            Orientationd("image", "RAS", labels=(("L", "R"), ("P", "A"), ("I", "S"))),
            Spacingd("image", bundle.get("spacing"), mode="bilinear"),
            ScaleIntensityRangePercentilesd("image", 0.5, 99.5, 0, 1, clip=True),
        ]
    )
    postprocessing = Compose(
        [
            AsDiscreted("pred", argmax=True),
            KeepLargestConnectedComponentd("pred"),
            Invertd("pred", preprocessing, orig_keys="image", nearest_interp=True, to_tensor=True),
            SaveImaged("pred", output_dir=out, output_dtype=np.uint8, print_log=False),
        ]
    )
    paths = [*sorted((folder / "images").iterdir()), *sorted((folder / "dicom").iterdir())]
    data = Dataset([{"image": str(path)} for path in paths], preprocessing)
    engine = SupervisedEvaluator(
        device,
        ThreadDataLoader(data, batch_size=1, num_workers=0),
        bundle.network,
        non_blocking=True,
        inferer=SlidingWindowInferer(bundle.get("roi_size"), 2, 0.25, mode="gaussian"),
        postprocessing=postprocessing,
    )
    watch.attach(engine)
    engine.run()
    return len(list(out.rglob("*.nii.gz")))


def run_way(way: str, asked: argparse.Namespace) -> dict[str, Any]:
    """Segment all cases in one way."""
    device, out = torch.device(asked.device), asked.out / way
    settings = {**WAYS[way], "device#name": asked.device, "again": True}
    used = sum(os.times()[:4])
    with measured(device) as cost:
        watch = Watch(device)
        if way == "stock":
            done = run_stock(asked.out / "cases", out, device, watch)
        else:
            done = run_ours(asked.out / "cases", out, settings, watch)
    if done != asked.cases:
        raise RuntimeError(f"every case must be segmented, {done} of {asked.cases} are")
    ends = [end for _, end in watch.spans["report"]]
    paces = np.diff([0.0, *ends])
    return {
        "seconds": cost.seconds,
        "processor": sum(os.times()[:4]) - used,
        "busy": watch.busy_seconds() / cost.seconds,
        "p50": float(np.percentile(paces, 50)),
        "p95": float(np.percentile(paces, 95)),
        "bytes": cost.peak_bytes,
        "spans": watch.spans,
    }


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw the waterfall of the first cases, one panel for each way, on one axis of time."""
    figure = Figure((11, 1.1 + 1.5 * len(results)), layout="constrained")
    axes = figure.subplots(len(results), 1, sharex=True, squeeze=False)[:, 0]
    colours = matplotlib.colormaps["tab20"]
    for axis, (way, found) in zip(axes, results.items(), strict=True):
        for row, stage in enumerate(STAGES):
            for number, (start, end) in enumerate(found["spans"][stage][:DRAWN]):
                bar = [(start, end - start)]
                axis.broken_barh(bar, (row - 0.4, 0.8), color=colours(number % colours.N))
        axis.set_yticks(range(len(STAGES)), STAGES)
        axis.invert_yaxis()
        axis.set_title(f"{way}: device {100 * found['busy']:.0f} % busy", loc="left", fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel(f"seconds since the start; the first {DRAWN} cases, one colour each")
    figure.savefig(path, dpi=120)


def describe(results: dict[str, Any], asked: argparse.Namespace) -> str:
    """Format a Markdown table; ratios are to the first way."""
    is_cuda = asked.device.startswith("cuda")
    name = torch.cuda.get_device_name(asked.device) if is_cuda else platform.machine()
    what = asked.images.name if asked.images else asked.shift
    base, first = next(iter(results.items()))
    lines = [
        f"{asked.device}, {name}, {torch.get_num_threads()} thread(s), {os.cpu_count()} cores, "
        f"load {os.getloadavg()[1]:.1f}; {asked.cases} cases, {what}",
        "",
        f"| way | seconds | ÷ {base} | processor s | ÷ {base} | device busy | p50, p95 s per case "
        f"| peak GiB | ÷ {base} |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for way, found in results.items():
        wall, used, memory = (found[key] / first[key] for key in ("seconds", "processor", "bytes"))
        lines.append(
            f"| {way} | {found['seconds']:.1f} | {wall:.2f} | {found['processor']:.1f} "
            f"| {used:.2f} | {100 * found['busy']:.0f} % | {found['p50']:.2f}, {found['p95']:.2f} "
            f"| {found['bytes'] / 2**30:.2f} | {memory:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure every way in a process of its own, print the table and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="new, or of a call that was stopped"
    )
    parser.add_argument("--cases", type=int, default=200, metavar="N", help="at least 2")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shift", default="none", choices=SHIFTS, help="of the phantoms' scanner")
    parser.add_argument("--shape", type=int, nargs=3, default=(320, 320, 24), metavar="N")
    parser.add_argument("--images", type=Path, metavar="DIR", help="in place of phantoms")
    parser.add_argument("--ways", nargs="+", default=[*WAYS], choices=WAYS)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.way:
        print(json.dumps(run_way(asked.way, asked)))
        return
    if not (asked.out / "cases").exists() and asked.images is None:
        write_phantoms(asked.out / "cases", asked.cases, asked.shift, tuple(asked.shape))
    elif not (asked.out / "cases").exists():
        copy_images(asked.out / "cases", asked.cases, asked.images)
    results = {}
    for way in asked.ways:
        path = asked.out / f"{way}.json"
        if not path.exists():  # else of an earlier call, which was stopped
            command = [sys.executable, __file__, *sys.argv[1:], "--way", way]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            path.write_text(done.stdout.splitlines()[-1], encoding="utf-8")
        results[way] = json.loads(path.read_text())
    draw(results, asked.out / "waterfall.png")
    print(describe(results, asked))


if __name__ == "__main__":
    main()
