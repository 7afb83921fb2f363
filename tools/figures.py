"""Draw the pictures of the documentation: contours of a case, or a report as a browser shows it.

``python tools/figures.py --out FILE [--dataset_dir DIR --case NAME] [--recipe NAME]``
``python tools/figures.py --out FILE --report PAGE``

The first draws the source network's contour, the final one and the reference on three slices.
Without `--dataset_dir` the case is a phantom, and its image lies behind the contours. Real cases
are drawn as contours alone: the licence of PROMISE12 does not allow their images to be shown.
The second needs Chromium, and shows the upper part of a case's page, the demonstration's for
instance.
"""

import argparse
import io
import shutil
import tempfile
from pathlib import Path
from typing import Any

import matplotlib as mpl
import nibabel as nib
import numpy as np
import torch
from matplotlib.lines import Line2D
from monai.data import decollate_batch
from monai.metrics import compute_dice
from PIL import Image
from playwright.sync_api import sync_playwright

mpl.use("Agg")

import matplotlib.pyplot as plt  # after the choice of a backend without a screen

from grata_monai.bundle import open_bundle
from grata_monai.record import Record

BUNDLE = Path(__file__).resolve().parents[1] / "bundle"
STYLES: dict[str, tuple[str, Any, float]] = {
    "reference": ("#444444", "solid", 2.6),
    "source": ("#d1495b", "dashed", 1.6),
    "final": ("#00798c", "solid", 1.6),
}
BRIGHT = {"reference": "#ffffff", "source": "#e69f00", "final": "#56b4e9"}  # over an image
OUTCOMES = {"adapted": "adapted", "views": "looked again, weights unchanged", "source": "kept"}
PAGE_SIZE = 1280, 800
COLOURS = 128  # of a report's picture, to keep it small


def segment(
    dataset_dir: str | None, case: str | None, recipe: str
) -> tuple[dict[str, np.ndarray], np.ndarray | None, str]:
    """Segment one case: masks by name on its own grid, a phantom's image, what was decided."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "output_dir": folder,
            "dataset_dir": dataset_dir,
            "only": [case] if case else None,
            "recipe": recipe,
        }
        bundle = open_bundle(BUNDLE, ("evaluate",), settings)
        batch = next(iter(bundle.get("dataloader")))
        batch["pred"] = bundle.inferer(batch["image"], bundle.network)
        item = bundle.postprocessing(decollate_batch(batch)[0])
        path = bundle.get("cases")[0]["image"]
        image = None if dataset_dir else np.asanyarray(nib.Nifti1Image.from_filename(path).dataobj)
    masks = {"reference": item["label"], "source": item["source"], "final": item["pred"]}
    outcome = OUTCOMES[Record.from_json(item["grata"]).outcome]
    return {name: np.asarray(mask[0]) for name, mask in masks.items()}, image, outcome


def draw(
    masks: dict[str, np.ndarray], image: np.ndarray | None, outcome: str, title: str, out: Path
) -> None:
    """Draw three slices, at a quarter, a half and three quarters of the reference's extent."""
    colours = {name: style[0] for name, style in STYLES.items()} if image is None else BRIGHT
    reference = masks["reference"] > 0
    slices = np.flatnonzero(reference.any((0, 1)))
    chosen = [int(slices[int(f * (len(slices) - 1))]) for f in (0.25, 0.5, 0.75)]
    everything = np.any([mask > 0 for mask in masks.values()], axis=0).any(2)
    rows, columns = np.nonzero(everything)
    margin = 12
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.6), layout="constrained")
    for axis, index in zip(axes, chosen, strict=True):
        if image is not None:
            axis.imshow(image[:, :, index].T, cmap="gray", vmax=np.percentile(image, 99.5))
        for name, (_, style, width) in STYLES.items():
            plane = masks[name][:, :, index].T > 0
            if plane.any():
                line = {"colors": colours[name], "linestyles": style, "linewidths": width}
                axis.contour(plane, [0.5], **line)
        axis.set_xlim(rows.min() - margin, rows.max() + margin)
        axis.set_ylim(columns.max() + margin, columns.min() - margin)
        axis.set_aspect("equal")
        axis.set_axis_off()
        axis.set_title(f"slice {index}", fontsize=9)
    before, after = (dice(masks[name], masks["reference"]) for name in ("source", "final"))
    handles = [
        Line2D([], [], color=colours[name], linestyle=style, linewidth=width)
        for name, (_, style, width) in STYLES.items()
    ]
    names = ["reference", f"source network, Dice {before:.3f}", f"{outcome}, Dice {after:.3f}"]
    ground = None if image is None else "#222222"  # bright lines vanish on white
    legend = figure.legend(handles, names, loc="outside lower center", ncols=3, facecolor=ground)
    for text in legend.get_texts():
        text.set_color("black" if image is None else "white")
    figure.suptitle(title, fontsize=10)
    figure.savefig(out, dpi=130)


def dice(mask: np.ndarray, reference: np.ndarray) -> float:
    """Dice overlap of two masks, in [0, 1]."""
    one, two = (torch.from_numpy(m > 0)[None, None].float() for m in (mask, reference))
    return float(compute_dice(one, two, ignore_empty=False))


def picture_report(page: Path, out: Path) -> None:
    """Take a picture of a case's page, with few colours."""
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        shown = browser.new_page(
            viewport={"width": PAGE_SIZE[0], "height": PAGE_SIZE[1]}, color_scheme="light"
        )
        shown.goto(page.absolute().as_uri())
        pixels = shown.screenshot()
        browser.close()
    Image.open(io.BytesIO(pixels)).convert("RGB").quantize(COLOURS).save(out, optimize=True)


def main() -> None:
    """Parse, segment, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dataset_dir")
    parser.add_argument("--case")
    parser.add_argument("--recipe", default="clinical")
    parser.add_argument("--report", type=Path, metavar="PAGE")
    arguments = parser.parse_args()
    if arguments.report:
        picture_report(arguments.report, arguments.out)
        return
    masks, image, outcome = segment(arguments.dataset_dir, arguments.case, arguments.recipe)
    what = arguments.case or "phantom with an endorectal coil"
    draw(masks, image, outcome, f"{what}: recipe {arguments.recipe}", arguments.out)


if __name__ == "__main__":
    main()
