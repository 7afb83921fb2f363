"""Dice of the bundle on the two real DICOM series against the masks that come with them.

``python tests/measure/dicom_prostate.py DATA [--precision bf16]``

DATA is a folder with the two series and ``labels/``. Two series are no statistics: what is printed
is what was seen. The reference of ProstateX-0000 is the agreement of algorithms.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np

from grata_monai import segment_dicom

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"
SERIES = {
    "ProstateX-0000_t2tsetra": "ProstateX-0000",
    "Prostate-MRI-US-Biopsy-0001_T2": "Prostate-MRI-US-Biopsy-0001",
}
WAYS: dict[str, Any] = {
    "source": "source",
    "left-right flip averaged": {
        "base": "source",
        "name": "flip",
        "prediction_views": ["identity", "flip:0"],
    },
    "paper": "paper",
    "clinical": "clinical",
}


def measure_dice(segmentation: Path, reference: Path) -> float:
    """Compare a DICOM SEG with a NIfTI mask on the same voxels, found by their positions."""
    volume = hd.seg.segread(segmentation).get_volume(combine_segments=True)
    image = nib.Nifti1Image.from_filename(reference)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine
    to_frames = np.linalg.inv(volume.affine) @ lps
    inside = np.argwhere(np.asarray(image.dataobj) > 0)
    at = np.rint(inside @ to_frames[:3, :3].T + to_frames[:3, 3]).astype(int)
    mask = volume.array > 0
    return float(2 * mask[tuple(at.T)].sum() / (mask.sum() + len(inside)))


def main() -> None:
    """Print one row per series."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--precision", default="bf16")
    arguments = parser.parse_args()
    print(f"| series | {' | '.join(WAYS)} |\n|---|{'---|' * len(WAYS)}")
    for series, label in SERIES.items():
        row = []
        for recipe in WAYS.values():
            with tempfile.TemporaryDirectory() as folder:
                settings = {"recipe": recipe, "precision": arguments.precision}
                run = segment_dicom(
                    arguments.data / series, folder, bundle_dir=BUNDLE, settings=settings
                )
                reference = arguments.data / "labels" / f"{label}.nii.gz"
                row.append(measure_dice(run.results[0].folder / "segmentation.dcm", reference))
        print(f"| {series} | {' | '.join(f'{dice:.3f}' for dice in row)} |", flush=True)


if __name__ == "__main__":
    main()
