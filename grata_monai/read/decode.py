"""Decode one file of an image: voxels and affine, or the reason why not.

Decisions:

- A confined subprocess opens, checks and inflates the file (`formats`); what it sends is trusted in
  nothing but its numbers. Scale and geometry are applied here, NIfTI's by nibabel.
- A library's default is no information: what the header does not say is refused, not guessed.
- MONAI's and ITK's readers are not used. They let damaged files pass, take what is missing for
  1 mm, and know neither limits nor folders.
"""

import io
import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import nibabel as nib
import numpy as np
from monai.data.utils import orientation_ras_lps, to_affine_nd
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import apply_read_scaling
from numpy.typing import NDArray

from grata_monai.core.errors import GeometryError, IntensityError, UnreadableImageError
from grata_monai.core.limits import MEBIBYTE, Limits
from grata_monai.core.sandbox import SandboxError, run_parts
from grata_monai.read.cases import EXTENSIONS
from grata_monai.read.formats.read import read_stored
from grata_monai.read.formats.stored import EXPORT_AGAIN

__all__ = ["FILE_LIMITS", "Float64", "Voxels", "check_stored", "decode"]

logger = logging.getLogger(__name__)

FILE_LIMITS = Limits(pixel_budget_bytes=1024 * MEBIBYTE, seconds=60.0)
"""What a file may cost if nobody says otherwise: 512×512×1024 voxels, a minute."""

SPACING_TOLERANCE = 0.01  # relative, between pixdim and sform
FORM_CODES = frozenset(range(6))  # 0 is unset
LIES = (KeyError, TypeError, ValueError, OverflowError, StopIteration)  # a wrong answer's ends
SMALLEST_SLOPE = float(np.finfo(np.float32).tiny)

Voxels = NDArray[np.float32]
Float64 = NDArray[np.float64]


def decode(path: Path, *, limits: Limits | None = None) -> tuple[Voxels, Float64]:
    """Read a file as it is.

    Args:
        path: A file of one of the `EXTENSIONS`.
        limits: Of size, memory and time; `FILE_LIMITS` if None.

    Returns:
        Voxels (*s) or (*s, c), scaled as the header says, and the 4×4 affine from voxel index to
        RAS in mm.

    Raises:
        UnreadableImageError: If the file is missing, damaged, too large, or no image of real
            numbers.
        GeometryError: If the header does not say where the image lies, or contradicts itself.
        IntensityError: If the header's scale is impossible.
    """
    if not path.name.lower().endswith(EXTENSIONS):
        raise UnreadableImageError(
            f"image must end in one of {', '.join(EXTENSIONS)}, got {path.name!r}. "
            "Convert it to NIfTI."
        )
    if not path.exists():
        raise UnreadableImageError(
            f"image must exist, {path.name!r} does not. Check the path or the list of cases."
        )
    limits = limits or FILE_LIMITS
    with _read_parts(path, limits) as parts:
        return _assemble(parts, path.name, limits)


def check_stored(path: Path, *, limits: Limits) -> None:
    """Read a file to its end in the confined subprocess, and keep nothing of it.

    For readers of other libraries, which know no limits: what passes they may open.

    Args:
        path: A file of one of the `EXTENSIONS`.
        limits: Of size, memory and time.

    Raises:
        UnreadableImageError: If the file is missing, damaged, too large, or no image of real
            numbers.
        GeometryError: If it has no extent, or its format says nothing of where it lies.
        IntensityError: If its format cannot say the scale that it says.
    """
    with _read_parts(path, limits) as parts:
        for _ in parts:
            pass


@contextmanager
def _read_parts(path: Path, limits: Limits) -> Iterator[Iterator[Mapping[str, Any]]]:
    """Lend what the subprocess reads of a file, and turn its failures into refusals."""
    request = {"path": str(path.absolute()), "budget": limits.pixel_budget_bytes}
    parts = run_parts(read_stored, request, limits=limits, subject=repr(path.name))
    try:
        yield parts
    except SandboxError as error:
        message = str(error)
        if not error.is_over_limit:
            message = f"image must be readable, {error}. Copy it again, or export it as NIfTI."
        raise UnreadableImageError(message) from error
    except LIES as error:
        raise UnreadableImageError(
            f"reader must return each plane once, that of {path.name!r} does not. "
            "Copy the image again, or export it as NIfTI."
        ) from error
    finally:
        parts.close()


def _assemble(
    parts: Iterator[Mapping[str, Any]], name: str, limits: Limits
) -> tuple[Voxels, Float64]:
    """Put blocks of planes into their places, scaled."""
    end = monotonic() + limits.seconds
    head = next(parts)
    affine, slope, inter = _read_geometry(head, name)
    voxels = _make_room(head["shape"], limits)
    extents = (*voxels.shape, 1, 1)[:2]
    planes = voxels.reshape(*extents, -1)
    # the file counts planes along its third axis first, an array in C order along its last
    places = np.arange(planes.shape[2]).reshape(voxels.shape[2:]).ravel(order="F")
    done = 0
    for part in parts:
        _check_time(end, name, limits)
        block = np.asarray(part["block"]).view(np.dtype(head["dtype"]))
        block = block.reshape(*extents, -1, order="F")
        here = places[done : done + block.shape[2]]
        with np.errstate(over="ignore"):  # becomes infinite, which the check of intensities reports
            planes[:, :, here] = apply_read_scaling(block, slope, inter)
        done += block.shape[2]
    if done != planes.shape[2]:
        raise ValueError
    spatial = [int(axis) for axis in head["spatial"]]
    return np.moveaxis(voxels, spatial, range(len(spatial))), affine


def _make_room(shape: Iterable[Any], limits: Limits) -> Voxels:
    """Set memory aside for voxels, within the budget; pages exist once they are written."""
    extents = tuple(int(extent) for extent in shape)
    if math.prod(extents) * 4 > limits.pixel_budget_bytes:
        raise ValueError
    return np.empty(extents, np.float32)


def _check_time(end: float, name: str, limits: Limits) -> None:
    if monotonic() > end:
        raise UnreadableImageError(
            f"image must be read within {limits.seconds:g} s, {name!r} takes longer. "
            "Copy it to a faster disk, or raise seconds of Limits."
        )


def _read_geometry(
    head: Mapping[str, Any], name: str
) -> tuple[Float64, float | None, float | None]:
    """Affine to RAS, slope and intercept."""
    if "header" not in head:
        affine = orientation_ras_lps(np.asarray(head["affine_lps"], dtype=np.float64))
        return np.asarray(to_affine_nd(3, affine), dtype=np.float64), None, None
    content = bytes(np.asarray(head["header"], np.uint8))
    kind: Any = nib.Nifti2Header if len(content) == 540 else nib.Nifti1Header
    raw = kind.from_fileobj(io.BytesIO(content), check=False)
    _check_nifti_spacing(raw, name)
    _check_nifti_scale(raw, name)
    codes = {int(raw[form]) for form in ("qform_code", "sform_code")}
    if codes == {0} or not codes <= FORM_CODES:
        raise GeometryError(
            f"qform or sform must say where the image lies, their codes in {name!r} are "
            f"{sorted(codes)} and readers disagree about it. Set one of them from the image that "
            "it was made of, or export the image again."
        )
    try:
        header = kind.from_fileobj(io.BytesIO(content))
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)
        scale = header.get_slope_inter()
    except (HeaderDataError, ValueError) as error:
        raise GeometryError(
            f"header must follow the rules of NIfTI, that of {name!r} does not. {EXPORT_AGAIN}"
        ) from error
    _check_nifti_forms(header, affine, name)
    return affine, *scale


def _check_nifti_spacing(header: Any, name: str) -> None:
    """Look at the header as it is on disk, before nibabel repairs it."""
    dims = min(max(int(header["dim"][0]), 1), 3)
    pixdim = [float(value) for value in header["pixdim"][1 : dims + 1]]
    if not all(np.isfinite(pixdim)) or min(pixdim) <= 0:
        raise GeometryError(
            f"spacing must be finite and above 0, {name!r} has pixdim {pixdim}. {EXPORT_AGAIN}"
        )
    code = int(header["xyzt_units"]) % 8
    if code not in (0, 2):
        unit = {1: "metre", 3: "micron"}.get(code, f"code {code}")
        raise GeometryError(
            f"spacing must be in mm, the header of {name!r} says {unit}. Save the image in mm."
        )


def _check_nifti_scale(header: Any, name: str) -> None:
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0:
        return  # NIfTI's word for no scale
    if not (math.isfinite(slope) and math.isfinite(inter)) or abs(slope) < SMALLEST_SLOPE:
        raise IntensityError(
            f"scl_slope and scl_inter must be finite, and a slope at least {SMALLEST_SLOPE:.3g}, "
            f"{name!r} has {slope:g} and {inter:g}. {EXPORT_AGAIN}"
        )


def _check_nifti_forms(header: Any, affine: Float64, name: str) -> None:
    """Refuse a header whose sform contradicts its pixdim; warn where qform contradicts sform."""
    if not np.isfinite(affine).all():
        return  # refused with every other affine
    dims = min(len(header.get_data_shape()), 3)
    pixdim = np.asarray(header.get_zooms()[:dims], dtype=np.float64)
    spacing = np.linalg.norm(affine[:3, :dims], axis=0)
    if spacing.all() and not np.allclose(spacing, pixdim, rtol=SPACING_TOLERANCE):
        raise GeometryError(
            f"pixdim and sform must agree on the spacing, {name!r} has "
            f"{pixdim.round(4).tolist()} and {spacing.round(4).tolist()} mm. {EXPORT_AGAIN}"
        )
    forms = [header.get_sform(coded=True), header.get_qform(coded=True)]
    if all(code > 0 for _, code in forms) and not np.allclose(forms[0][0], forms[1][0], atol=0.1):
        logger.warning("%s: qform differs from sform; sform is used, also for the mask", name)
