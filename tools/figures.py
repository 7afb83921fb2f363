"""Draw the source network's contour, the adapted one and the reference on three slices of a case.

``python tools/figures.py --out FILE [--dataset_dir DIR --case NAME] [--recipe NAME]``

Without `--dataset_dir` the case is a phantom, and its image lies behind the contours. Real cases
are drawn as contours alone: the licence of PROMISE12 does not allow their images to be shown.
"""

import argparse
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

mpl.use("Agg")

import matplotlib.pyplot as plt  # after the choice of a backend without a screen

from grata_monai.bundle import open_bundle

BUNDLE = Path(__file__).resolve().parents[1] / "bundle"
STYLES: dict[str, tuple[str, Any, float]] = {
    "reference": ("#444444", "solid", 2.6),
    "source": ("#d1495b", "dashed", 1.6),
    "adapted": ("#00798c", "solid", 1.6),
}


def segment(
    dataset_dir: str | None, case: str | None, recipe: str
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Segment one case with the bundle; masks by name on its own grid, and a phantom's image."""
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
    masks = {"reference": item["label"], "source": item["source"], "adapted": item["pred"]}
    return {name: np.asarray(mask[0]) for name, mask in masks.items()}, image


def draw(masks: dict[str, np.ndarray], image: np.ndarray | None, title: str, out: Path) -> None:
    """Draw three slices, at a quarter, a half and three quarters of the reference's extent."""
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
        for name, (colour, style, width) in STYLES.items():
            plane = masks[name][:, :, index].T > 0
            if plane.any():
                axis.contour(plane, [0.5], colors=colour, linestyles=style, linewidths=width)
        axis.set_xlim(rows.min() - margin, rows.max() + margin)
        axis.set_ylim(columns.max() + margin, columns.min() - margin)
        axis.set_aspect("equal")
        axis.set_axis_off()
        axis.set_title(f"slice {index}", fontsize=9)
    scores = {name: dice(masks[name], masks["reference"]) for name in ("source", "adapted")}
    handles = [Line2D([], [], color=c, linestyle=s, linewidth=w) for c, s, w in STYLES.values()]
    names = ["reference", *(f"{name}, Dice {score:.3f}" for name, score in scores.items())]
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(title, fontsize=10)
    figure.savefig(out, dpi=130)


def dice(mask: np.ndarray, reference: np.ndarray) -> float:
    """Dice overlap of two masks, in [0, 1]."""
    one, two = (torch.from_numpy(m > 0)[None, None].float() for m in (mask, reference))
    return float(compute_dice(one, two, ignore_empty=False))


def main() -> None:
    """Parse, segment, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dataset_dir")
    parser.add_argument("--case")
    parser.add_argument("--recipe", default="clinical")
    arguments = parser.parse_args()
    masks, image = segment(arguments.dataset_dir, arguments.case, arguments.recipe)
    what = arguments.case or "phantom with an endorectal coil"
    draw(masks, image, f"{what}: recipe {arguments.recipe}", arguments.out)


if __name__ == "__main__":
    main()
