"""Run `grata_monai nnunet` and nnU-Net itself over small folders, in nnU-Net's environment.

``python nnunet_session.py FOLDER`` needs what `nnunet_folder` wrote there. Results lie in
``FOLDER/out/<name>``, what nnU-Net alone makes in ``FOLDER/native/<name>``, and ``said.json`` says
how every command ended. One process for all of them: importing costs more than predicting.
"""

import contextlib
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from grata_monai.adapt.recipe import resolve_recipe
from grata_monai.cli import main as run_cli
from grata_monai.nnunet.folder import read_folder
from grata_monai.nnunet.options import Options
from grata_monai.nnunet.predictor import GraTaPredictor
from grata_monai.phantom.dicom import write_series

MOVING = {"base": "clinical", "guard": False, "steps": 1, "windows": 1, "search_views": []}
NEAR = {"steps": 0, "focus_views": ["identity", "scale:1.33:0,1"], "search_views": []}
QUICK = {"base": "views", "focus_views": ["identity"], "search_views": []}
NATIVE = {
    "source": ("images", "trained", (0, 1)),
    "regions": ("one", "regions", (0,)),
    "plane": ("whole_pairs", "plane", (0,)),
    "total": ("one", "total", (0,)),
}
"""What nnU-Net alone predicts: images, model, folds."""


def main(folder: Path, *, is_oldest: bool) -> None:
    """Run everything, or with the oldest nnU-Net what depends on its version."""
    if is_oldest:
        (folder / "oldest.json").write_text(json.dumps(run_oldest(folder)))
        return
    write_inputs(folder)
    (folder / "moving.json").write_text(json.dumps(MOVING))
    (folder / "quick.json").write_text(json.dumps(QUICK))
    moving, quick = str(folder / "moving.json"), str(folder / "quick.json")
    said = {
        "source": ask(folder, "source", "images", "trained", "--recipe", "source"),
        "again": ask(folder, "source", "images", "trained", "--recipe", "source"),
        "moving": ask(folder, "moving", "one", "trained", "-f", "0", "--recipe", moving),
        "folds": ask(folder, "folds", "one", "trained", "-f", "0", "1", "--recipe", moving),
        "regions": ask(folder, "regions", "one", "regions", "--recipe", "source"),
        "views": ask(folder, "views", "one", "regions", "--recipe", quick),
        "plane": ask(folder, "plane", "pairs", "plane", "--recipe", "source"),
        "total": ask(folder, "total", "one", "total", "--recipe", quick),
        "dicom": ask(folder, "dicom", "series", "trained", "--recipe", "source", "--dicom"),
        "cascade": ask(folder, "cascade", "one", "cascade"),
        "mixed": ask(folder, "mixed", "series", "plane"),
    }
    said.update(calibrate(folder))
    if any((folder / "converted").iterdir()):
        said["nifti"] = ask(folder, "nifti", "converted", "trained", "--recipe", "source")
    (folder / "said.json").write_text(json.dumps(said))
    for name, (images, model, folds) in NATIVE.items():
        predict_natively(folder, name, images, model, folds)
    predict_with_ours(folder, "moving")
    predict_natively(folder, "labelled", "nnUNet_raw/Dataset900_Balls/imagesTr", "trained", (0,))


def calibrate(folder: Path) -> dict[str, dict[str, object]]:
    """Compare and calibrate on the cases that training had, and run with what was chosen."""
    candidates, recipe = folder / "candidates.json", folder / "chosen.json"
    candidates.write_text(json.dumps({"near": NEAR}))
    raw = folder / "nnUNet_raw" / "Dataset900_Balls"
    places = ["--images", raw / "imagesTr", "--labels", raw / "labelsTr", "--device", "cpu"]
    given = [*places, "--network", folder / "trained", "--set", "folds=0"]
    calibrating = ["--out", recipe, "--candidates", candidates, "--shifts", "none"]
    comparing = ["--out", folder / "compared", "--methods", "source", "grata-views"]
    return {
        "calibrate": call("calibrate", *given, *calibrating),
        "compare": call("compare", *given, *comparing, "--only", "case_0", "case_1"),
        "strange": call("compare", *given, *comparing, "--set", "fold=1"),
        "chosen": ask(folder, "chosen", "one", "trained", "-f", "0", "--recipe", str(recipe)),
    }


def run_oldest(folder: Path) -> dict[str, object]:
    """Predict with another version of nnU-Net what the newest has trained."""
    said: dict[str, object] = {}
    for name, (images, model, folds) in NATIVE.items():
        predict_natively(folder, f"oldest_{name}", images, model, folds)
        said[name] = ask(folder, f"oldest_{name}", images, model, "--recipe", "source")
    moving = str(folder / "moving.json")
    for name, numbers in (("moving", "0"), ("folds", "01")):
        said[name] = ask(
            folder, f"oldest_{name}", "one", "trained", "-f", *numbers, "--recipe", moving
        )
    predict_with_ours(folder, "oldest_moving")
    said["dicom"] = ask(
        folder, "oldest_dicom", "series", "trained", "--recipe", "source", "--dicom"
    )
    return said


def predict_with_ours(folder: Path, name: str) -> None:
    """Let nnU-Net's own program predict with our predictor in place of its own."""
    model = read_folder(folder / "trained", folds=["0"])
    recipe = resolve_recipe(MOVING)
    (folder / "native" / name).mkdir(parents=True)
    with contextlib.redirect_stdout(io.StringIO()):
        predictor = GraTaPredictor(model, Options(recipe))
        case, target = folder / "one" / "one_0000.nii.gz", folder / "native" / name / "one"
        predictor.predict_from_files_sequential([[str(case)]], [str(target)])


def write_inputs(folder: Path) -> None:
    """Write further inputs: pairs of channels of which some are faulty, and a DICOM series."""
    one, two = (folder / "images" / f"{name}_0000.nii.gz" for name in ("one", "two"))
    for name in ("one", "pairs", "whole_pairs"):
        (folder / name).mkdir()
    shutil.copy(one, folder / "one")
    for name in ("pairs", "whole_pairs"):
        for channel in (0, 1):
            shutil.copy(one, folder / name / f"good_{channel:04d}.nii.gz")
    shutil.copy(one, folder / "pairs" / "single_0000.nii.gz")
    for channel, file in enumerate((one, two)):
        shutil.copy(file, folder / "pairs" / f"unlike_{channel:04d}.nii.gz")
        (folder / "pairs" / f"broken_{channel:04d}.nii.gz").write_bytes(b"no image")
    image = nib.Nifti1Image.from_filename(one)
    voxels = np.asarray(image.dataobj)
    affine = np.diag([-1.0, -1.0, 2.0, 1.0])
    write_series(folder / "series", voxels.astype(np.float32), affine)
    (folder / "converted").mkdir()
    convert = ["dcm2niix", "-z", "y", "-b", "n", "-f", "series_0000", "-o"]
    if shutil.which("dcm2niix"):
        subprocess.run(
            [*convert, folder / "converted", folder / "series"], check=True, capture_output=True
        )


def ask(folder: Path, name: str, images: str, model: str, *options: str) -> dict[str, object]:
    """Run the command line, and say how it ended."""
    places = ["-i", folder / images, "-o", folder / "out" / name, "-m", folder / model]
    return call("nnunet", *places, "--device", "cpu", *options)


def call(*arguments: object) -> dict[str, object]:
    """Run a command, and say how it ended."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = run_cli([str(argument) for argument in arguments])
    return {"status": status, "out": out.getvalue(), "err": err.getvalue()}


def predict_natively(
    folder: Path, name: str, images: str, model: str, folds: Sequence[int]
) -> None:
    """Let nnU-Net alone predict, as its own command does."""
    (folder / "native" / name).mkdir(parents=True)
    with contextlib.redirect_stdout(io.StringIO()):
        predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(folder / model), tuple(folds))
        cases: dict[str, list[str]] = {}
        for file in sorted((folder / images).iterdir()):
            cases.setdefault(file.name[: -len("_0000.nii.gz")], []).append(str(file))
        targets = [str(folder / "native" / name / case) for case in cases]
        predictor.predict_from_files_sequential(list(cases.values()), targets)


if __name__ == "__main__":
    main(Path(sys.argv[1]), is_oldest=sys.argv[2:] == ["--oldest"])
