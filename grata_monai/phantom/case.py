"""A synthetic case from a seed: image, exact label and geometry, in memory or as NIfTI files."""

import gzip
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform
from numpy.random import default_rng

from grata_monai.core.files import atomic_path, ensure_writable
from grata_monai.phantom.anatomy import Patient, draw_patient
from grata_monai.phantom.geometry import Float32, Float64, Point, UInt8, to_point
from grata_monai.phantom.painter import Grid, patient_matrix, render
from grata_monai.phantom.scanner import add_noise, apply_scanner_shift, check_shift, check_spacing

__all__ = ["PhantomCase", "make_case", "write_cases"]

SMALLEST_SHAPE = 8


@dataclass(frozen=True)
class PhantomCase:
    """One synthetic case.

    Attributes:
        image: Intensities as a scanner gives them, 0 to about 1500.
        label: 1 where at least half of the voxel is prostate, else 0.
        affine_ras: Voxel index to RAS in mm.
    """

    image: Float32
    label: UInt8
    affine_ras: Float64


def make_case(
    seed: int,
    *,
    shift: str = "none",
    spacing: Sequence[float] = (0.6, 0.6, 3.0),
    spatial_shape: Sequence[int] = (320, 320, 24),
    orientation: str = "LPS",
    oblique_degrees: float = 0.0,
) -> PhantomCase:
    """Render one patient on one scanner.

    Spacing and shape are given in the patient's order (left-right, front-back, bottom-top),
    whatever the `orientation` in which the array is then stored.

    Args:
        seed: Decides the patient, the textures and the noise; at least 0.
        shift: What the scanner does differently, one of `SHIFTS`.
        spacing: Distance of voxel centres in mm, above 0.
        spatial_shape: Number of voxels along each axis, at least 8.
        orientation: Three axis codes, such as ``"LPS"``: where each array axis points to.
        oblique_degrees: Turn of the grid against the patient, between -45 and 45 degrees.

    Returns:
        Image, label and affine; the same bytes for the same arguments.

    Raises:
        ValueError: If an argument breaks its rule.
    """
    check_shift(shift, seed)
    check_spacing(spacing)
    _check_grid(spatial_shape, orientation, oblique_degrees)
    size, shape = to_point(spacing), (spatial_shape[0], spatial_shape[1], spatial_shape[2])
    if shift == "thick_slices":
        size, shape = (*size[:2], 2 * size[2]), (*shape[:2], (shape[2] + 1) // 2)
    patient = draw_patient(seed, has_coil=shift == "endorectal_coil")
    grid = Grid(patient_matrix(patient, size, shape, oblique_degrees), shape, size)
    image, gland_share = render(patient, grid, seed)
    if shift != "thick_slices":
        centre = _coil_index(patient, grid)
        image = apply_scanner_shift(image, shift=shift, seed=seed, spacing=size, centre=centre)
    noise = default_rng((seed, 3))
    image = add_noise(image, sigma=float(noise.uniform(7, 13)), rng=noise)
    affine_ras = grid.matrix.copy()
    affine_ras[:3, 3] += patient.world
    return _reorient(image, (gland_share >= 0.5).astype(np.uint8), affine_ras, orientation)


def write_cases(
    folder: str | os.PathLike[str],
    *,
    cases: int,
    shift: str = "none",
    seed: int = 0,
    spacing: Sequence[float] = (0.6, 0.6, 3.0),
    spatial_shape: Sequence[int] = (320, 320, 24),
    orientation: str = "LPS",
) -> list[tuple[Path, Path]]:
    """Write cases as NIfTI: ``images/phantom_<shift>_<seed>.nii.gz``, ``labels/`` of equal name.

    Args:
        folder: Where ``images`` and ``labels`` are made; files of these names are replaced.
        cases: How many, at least 1.
        shift: One of `SHIFTS`.
        seed: Of the first case; the others follow by one.
        spacing: See `make_case`.
        spatial_shape: See `make_case`.
        orientation: See `make_case`.

    Returns:
        Paths of image and label, one pair per case.

    Raises:
        ValueError: If an argument breaks its rule; nothing is written then.
        OutputError: If the folder or a file cannot be written.
    """
    if cases < 1:
        raise ValueError(f"cases must be at least 1, got {cases}. Ask for one case or more.")
    written = []
    for number in range(seed, seed + cases):
        case = make_case(
            number,
            shift=shift,
            spacing=spacing,
            spatial_shape=spatial_shape,
            orientation=orientation,
        )
        name = f"phantom_{shift}_{number:04d}.nii.gz"
        paths = Path(folder) / "images" / name, Path(folder) / "labels" / name
        _write_nifti(case.image, case.affine_ras, paths[0])
        _write_nifti(case.label, case.affine_ras, paths[1])
        written.append(paths)
    return written


def _check_grid(spatial_shape: Sequence[int], orientation: str, degrees: float) -> None:
    if len(spatial_shape) != 3 or min(spatial_shape) < SMALLEST_SHAPE:
        raise ValueError(
            f"spatial_shape must be three numbers of at least {SMALLEST_SHAPE} voxels, got "
            f"{tuple(spatial_shape)}. Take more voxels; a wider spacing makes a fast case."
        )
    if sorted(orientation.translate(str.maketrans("LPI", "RAS"))) != ["A", "R", "S"]:
        raise ValueError(
            "orientation must be three axis codes, one each of L or R, P or A, I or S, got "
            f"{orientation!r}. Take for example 'LPS' or 'RAS'."
        )
    if not abs(degrees) < 45:
        raise ValueError(
            f"oblique_degrees must lie between -45 and 45, got {degrees}. "
            "Take another orientation for larger turns."
        )


def _coil_index(patient: Patient, grid: Grid) -> Point | None:
    """Find the voxel at the front of the balloon, where the receive coil sits."""
    if patient.coil is None:
        return None
    x, y, z = patient.coil.centre
    front = np.array([x, y + 0.7 * patient.coil.radii[1], z, 1.0])
    return to_point((np.linalg.inv(grid.matrix) @ front)[:3])


def _reorient(image: Float32, label: UInt8, affine_ras: Float64, orientation: str) -> PhantomCase:
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(orientation))
    return PhantomCase(
        image=np.ascontiguousarray(apply_orientation(image, turn)),
        label=np.ascontiguousarray(apply_orientation(label, turn)),
        affine_ras=affine_ras @ inv_ornt_aff(turn, image.shape),
    )


def _write_nifti(voxels: Float32 | UInt8, affine_ras: Float64, path: Path) -> None:
    nifti = nib.Nifti1Image(voxels, affine_ras)
    nifti.header.set_xyzt_units("mm")
    nifti.set_qform(affine_ras, code=1)
    nifti.set_sform(affine_ras, code=1)
    ensure_writable(path.parent)
    with atomic_path(path) as unfinished:
        unfinished.write_bytes(gzip.compress(nifti.to_bytes(), compresslevel=1, mtime=0))
