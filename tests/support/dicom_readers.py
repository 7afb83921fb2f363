"""What MONAI's own readers make of the corpus, beside what becomes of it here.

``python tests/support/dicom_readers.py`` prints the table of ``docs/reference/dicom-corpus.md``.
Readers run in processes of their own: some kinds may crash them.
"""

import json
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from dicom_corpus import KINDS, Expected, Kind

READERS = ("ITKReader", "PydicomReader")
TOLERANCE = 0.02  # mm, and intensities beside the kind's own


def make_table(folder: Path) -> list[str]:
    """Rows of the table, from a folder to work in."""
    for index, kind in enumerate(KINDS):
        (folder / str(index)).mkdir()
        if not kind.is_bomb:
            kind.make(folder / str(index))
    found = [_run(reader, folder) for reader in READERS]
    rows = []
    for kind, *others in zip(KINDS, *found, strict=True):
        cells = ["not tried" if kind.is_bomb else other for other in others]
        rows.append(f"| {kind.name} | {_describe(kind)} | {' | '.join(cells)} |")
    return rows


def _describe(kind: Kind) -> str:
    volumes = len(kind.volumes())
    codes = [f"`{code}`" for code in sorted(set(kind.refused))]
    if not volumes:
        return ", ".join(codes)
    exact = "exact" if volumes == 1 else f"{volumes} exact volumes"
    return ", ".join([exact, *(f"{code} for the rest" for code in codes)])


def _run(reader: str, folder: Path) -> list[str]:
    """Ask a process after every kind; where it dies, another one goes on behind the kind."""
    outcomes: list[str] = []
    while len(outcomes) < len(KINDS):
        command = [sys.executable, __file__, reader, str(folder), str(len(outcomes))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        lines = [line[5:] for line in done.stdout.splitlines() if line.startswith("kind ")]
        outcomes += [json.loads(line) for line in lines]
        if done.returncode and len(outcomes) < len(KINDS):
            outcomes.append("crash")
    return outcomes


def _work(reader: str, folder: Path, start: int) -> None:
    """Read the kinds from `start` on, one line for each."""
    import monai.data  # slow, and needed in the child alone

    warnings.simplefilter("ignore")
    for index, kind in list(enumerate(KINDS))[start:]:
        outcome = "" if kind.is_bomb else _read(monai.data, reader, folder / str(index), kind)
        print(f"kind {json.dumps(outcome)}", flush=True)


def _read(library: object, reader: str, folder: Path, kind: Kind) -> str:
    try:
        chosen = getattr(library, reader)()
        array, meta = chosen.get_data(chosen.read(str(folder)))
        voxels = np.asarray(array, dtype=np.float64)
        affine = np.asarray(meta["affine"], dtype=np.float64)
    except Exception:  # whatever a reader says
        return "error"
    return _judge(voxels, affine, kind.volumes(), kind.tolerance)


def _judge(
    voxels: np.ndarray, affine: np.ndarray, expected: Sequence[Expected], tolerance: float
) -> str:
    if voxels.ndim != 3:
        seen = f"shape {'×'.join(map(str, voxels.shape))}"
    elif not np.isfinite(voxels).all() or not np.isfinite(affine).all():
        seen = "values that are not finite"
    else:
        seen = f"{voxels.shape[2]} slices of {np.linalg.norm(affine[:3, 2]):.2f} mm"
    if not expected:
        return f"reads {seen}"
    if len(expected) > 1 or voxels.shape != expected[0][0].shape:
        return f"**silent**: {seen}"
    ours, theirs = (
        nib.as_closest_canonical(nib.Nifti1Image(v, a)) for v, a in (expected[0], (voxels, affine))
    )
    if np.abs(ours.affine - theirs.affine).max() > TOLERANCE:
        return f"**silent**: {seen}, elsewhere"
    is_equal = np.abs(ours.get_fdata() - theirs.get_fdata()).max() <= tolerance + TOLERANCE
    return "exact" if is_equal else "**silent**: other intensities"


if __name__ == "__main__":
    if len(sys.argv) == 4:
        _work(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
    else:
        with tempfile.TemporaryDirectory() as name:
            print("\n".join(make_table(Path(name))))
