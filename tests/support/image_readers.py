"""What other readers make of the corpus of images, beside what becomes of it here.

``python tests/support/image_readers.py`` prints the table of
``docs/reference/image-conditions.md``. Readers run in processes of their own: some kinds may crash
them.
"""

import json
import resource
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from image_corpus import AFFINE, KINDS, VOXELS, Kind

TOLERANCE = 1e-3  # mm, and intensities
SECONDS = 120
MEMORY = 8 * 2**30


def make_table(folder: Path) -> list[str]:
    """Rows of the table, from a folder to work in."""
    found = [_run(name, folder) for name in READERS]
    return [
        f"| {kind.name} | {_describe(kind)} | {' | '.join(cells)} |"
        for kind, *cells in zip(KINDS, *found, strict=True)
    ]


def _describe(kind: Kind) -> str:
    return f"`{kind.error}`" if kind.error else "exact"


def _run(reader: str, folder: Path) -> list[str]:
    """Ask a process after every kind; where it dies, another one goes on behind the kind."""
    outcomes: list[str] = []
    while len(outcomes) < len(KINDS):
        place = folder / f"{reader}_{len(outcomes)}"
        place.mkdir()
        command = [sys.executable, __file__, reader, str(place), str(len(outcomes))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        lines = [line[5:] for line in done.stdout.splitlines() if line.startswith("kind ")]
        outcomes += [json.loads(line) for line in lines]
        if done.returncode and len(outcomes) < len(KINDS):
            outcomes.append("no end" if done.returncode == -signal.SIGALRM else "crash")
    return outcomes


def _work(reader: str, folder: Path, start: int) -> None:
    """Read the kinds from `start` on, one line for each."""
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for number, kind in enumerate(KINDS[start:]):
        place = folder / str(number)
        place.mkdir()
        signal.alarm(SECONDS)
        outcome = "not tried" if kind.is_bomb else _read(READERS[reader], kind, place)
        print(f"\nkind {json.dumps(outcome)}", flush=True)


def _read(reader: Callable[[Path], Any], kind: Kind, place: Path) -> str:
    path = kind.make(place)
    try:
        found = reader(path)
    except Exception:  # whatever a reader says
        return "error"
    if found is None:
        return "–"
    voxels, affine = np.squeeze(np.asarray(found[0], np.float64)), np.asarray(found[1], np.float64)
    difference = _compare(voxels, affine, VOXELS if kind.voxels is None else kind.voxels)
    return f"**silent**: {difference}" if difference else "exact"


def _compare(voxels: np.ndarray, affine: np.ndarray, expected: np.ndarray) -> str:
    """Say in what an image differs from the one that is right."""
    if voxels.shape != expected.shape:
        return f"shape {'×'.join(map(str, voxels.shape))}"
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < TOLERANCE:
        return "an impossible affine"
    theirs = nib.as_closest_canonical(nib.Nifti1Image(voxels, affine))
    if np.abs(theirs.affine - AFFINE).max() > TOLERANCE:
        return "elsewhere"
    is_equal = np.allclose(theirs.get_fdata(), expected, atol=TOLERANCE, rtol=0)
    return "" if is_equal else "other voxels"


def _with_nibabel(path: Path) -> Any:
    if ".nii" not in path.name:
        return None
    image: Any = nib.load(path)
    return np.asanyarray(image.dataobj), image.affine


def _with_itk(path: Path) -> Any:
    import itk  # slow, and needed in one process alone

    image = itk.imread(str(path))
    axes = itk.array_from_matrix(image.GetDirection())
    voxels = itk.array_from_image(image)
    return voxels.T, _as_affine(axes, image.GetSpacing(), image.GetOrigin())


def _with_simpleitk(path: Path) -> Any:
    import SimpleITK  # as above

    image = SimpleITK.ReadImage(str(path))
    axes = np.reshape(image.GetDirection(), (image.GetDimension(),) * 2)
    voxels = SimpleITK.GetArrayFromImage(image)
    return voxels.T, _as_affine(axes, image.GetSpacing(), image.GetOrigin())


def _with_monai(path: Path) -> Any:
    from monai.transforms import LoadImage  # as above

    image = LoadImage(image_only=True)(path)
    return image.numpy(), image.affine.numpy()


def _as_affine(axes: Any, spacing: Any, origin: Any) -> np.ndarray:
    """Of the first three axes, RAS."""
    affine = np.eye(4)
    affine[:3, :3] = (np.asarray(axes) @ np.diag(np.asarray(spacing)))[:3, :3]
    affine[:3, 3] = np.asarray(origin)[:3]
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


READERS: dict[str, Callable[[Path], Any]] = {
    "nibabel": _with_nibabel,
    "ITK": _with_itk,
    "SimpleITK": _with_simpleitk,
    "MONAI": _with_monai,
}

if __name__ == "__main__":
    if len(sys.argv) == 4:
        _work(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
    else:
        with tempfile.TemporaryDirectory() as name:
            print("\n".join(make_table(Path(name))))
