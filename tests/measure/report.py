"""What a report costs: its time beside the case's, its size, and how fast pages open.

``python tests/measure/report.py [--recipe clinical] [--rows 10000]``

One phantom with the bundle, with the processor's seconds beside those of the clock: only they stay
the same where something else runs. Chromium, if it is there, opens the case's page and an index of
many rows five times; the fastest counts.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from grata_monai.bundle import open_bundle
from grata_monai.hosts.python import predict_case
from grata_monai.phantom import write_cases
from grata_monai.report import ReportHandler, write_case
from grata_monai.report.index import render_index
from grata_monai.report.rows import FOLDER, Row

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="clinical")
    parser.add_argument("--rows", type=int, default=10_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measure_case(folder, arguments.recipe)
        rows = [Row(f"case_{k:05}", "green", "fine", agreement=0.5) for k in range(arguments.rows)]
        index = folder / "index.html"
        index.write_text(render_index(rows), encoding="utf-8")
        print(f"index of {len(rows)} rows: {index.stat().st_size / 1e6:.2f} MB")
        for page in (folder / FOLDER / "phantom.html", index):
            print(f"{page.name} opens in {open_page(page):.2f} s")


def measure_case(folder: Path, recipe: str) -> None:
    """Segment and report one phantom."""
    ((image, _),) = write_cases(folder / "images", cases=1, shift="endorectal_coil", seed=0)
    clock, used = time.perf_counter(), time.process_time()
    bundle = open_bundle(BUNDLE, (), {"recipe": recipe}, unverified=True)
    done = bundle.postprocessing(predict_case(bundle.preprocessing({"image": str(image)}), bundle))
    case_seconds, case_used = time.perf_counter() - clock, time.process_time() - used
    handler = ReportHandler(folder, names={"1": "prostate"})
    seconds = []
    for _ in range(2):  # the first also loads fonts and templates
        clock, used = time.perf_counter(), time.process_time()
        write_case(handler.collect("phantom", done), folder)
        seconds.append((time.perf_counter() - clock, time.process_time() - used))
    print(f"case {case_seconds:.1f} s, {case_used:.1f} s of processor")
    for which, (clock, used) in zip(("report", "the next"), seconds, strict=True):
        share = used / case_used
        print(f"{which} {clock:.2f} s, {used:.2f} s of processor, {share:.3f} of the case's")
    size = (folder / FOLDER / "phantom.html").stat().st_size
    print(f"page {size / 1e6:.2f} MB")


def open_page(page: Path) -> float:
    """Fewest seconds until a page is loaded and its scripts have run."""
    from browser import Reader, chromium  # beside the tests

    with chromium() as found:
        seconds = []
        for _ in range(5):
            clock = time.perf_counter()
            Reader(found).open(page)
            seconds.append(time.perf_counter() - clock)
    return min(seconds)


if __name__ == "__main__":
    main()
