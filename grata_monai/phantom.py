"""Synthetic pelvic T2-weighted MR cases with exact prostate ground truth and chosen scanner shifts.

A patient is a list of smooth bodies in millimetres, painted one over the other; any grid samples
the same patient. Patient coordinates are RAS in mm with their origin at the centre of the gland.
From top to bottom: what callers use, their arguments' rules, the patient, the painter, the scanner.
"""

import difflib
import gzip
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["SHIFTS", "PhantomCase", "apply_scanner_shift", "make_case", "write_cases"]

SHIFTS: tuple[str, ...] = (
    "none",
    "endorectal_coil",
    "low_field",
    "gain",
    "bias_field",
    "contrast_inversion",
    "motion",
    "thick_slices",
)

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
UInt8 = NDArray[np.uint8]
Points = tuple[Float32, Float32, Float32]  # x, y, z in patient mm
Point = tuple[float, float, float]
Window = tuple[slice, slice, slice]  # of a stack of sub-slices

SMALLEST_SHAPE = 8
COLUMN = float("inf")  # half height of what runs through the whole pelvis
MOVED = 14.0  # mm, more than waves and coil ever move a point


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
    _check_shift(shift, seed)
    _check_spacing(spacing)
    _check_grid(spatial_shape, orientation, oblique_degrees)
    size, shape = _point(spacing), (spatial_shape[0], spatial_shape[1], spatial_shape[2])
    if shift == "thick_slices":
        size, shape = (*size[:2], 2 * size[2]), (*shape[:2], (shape[2] + 1) // 2)
    patient = _draw_patient(seed, has_coil=shift == "endorectal_coil")
    grid = _Grid(_patient_matrix(patient, size, shape, oblique_degrees), shape, size)
    image, gland_share = _render(patient, grid, seed)
    if shift != "thick_slices":
        centre = _coil_index(patient, grid)
        image = apply_scanner_shift(image, shift=shift, seed=seed, spacing=size, centre=centre)
    noise = default_rng((seed, 3))
    image = _add_noise(image, sigma=float(noise.uniform(7, 13)), rng=noise)
    affine_ras = grid.matrix.copy()
    affine_ras[:3, 3] += patient.world
    return _reorient(image, (gland_share >= 0.5).astype(np.uint8), affine_ras, orientation)


def apply_scanner_shift(
    image: Float32,
    *,
    shift: str,
    seed: int,
    spacing: Sequence[float],
    centre: Point | None = None,
    severity: float = 1.0,
) -> Float32:
    """Change the intensities of any 3-D image as another scanner would; the anatomy stays.

    Args:
        image: Non-negative intensities, three axes; never changed in place.
        shift: One of `SHIFTS`; ``"thick_slices"`` blurs along the axis of widest spacing.
        seed: Decides directions, factors and noise; at least 0.
        spacing: Distance of voxel centres in mm along the array's axes.
        centre: Voxel index of the coil for ``"endorectal_coil"``; the middle if None.
        severity: 0 changes nothing, 1 is a plain case, larger is worse.

    Returns:
        The shifted image, float32, of the same shape.

    Raises:
        ValueError: If the shift is unknown, or seed, shape, spacing or severity break their rule.
    """
    _check_shift(shift, seed)
    _check_image(image, spacing, severity)
    clean = np.array(image, dtype=np.float32)
    if shift == "none" or severity == 0:
        return clean
    rng = default_rng((seed, 100 + SHIFTS.index(shift)))
    sizes = np.asarray(spacing, dtype=np.float64)
    if shift == "endorectal_coil":
        shifted = clean * _coil_sensitivity(clean.shape, sizes, centre, severity)
    elif shift == "low_field":
        shifted = _lower_field(clean, sizes, severity, rng)
    elif shift == "gain":
        sign = float(rng.choice((-1.0, 1.0)))
        shifted = clean * float(np.exp(sign * severity * rng.uniform(0.7, 1.2)))
    elif shift == "bias_field":
        shifted = clean * _bias_field(clean.shape, 0.8 * severity, rng)
    elif shift == "contrast_inversion":
        shifted = _invert_contrast(clean, severity)
    elif shift == "motion":
        shifted = _move(clean, sizes, severity, rng)
    else:
        sigmas = 0.8 * severity * (np.arange(3) == np.argmax(sizes))
        shifted = ndimage.gaussian_filter(clean, sigmas)
    return np.asarray(shifted, dtype=np.float32)


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


def _write_nifti(voxels: Float32 | UInt8, affine_ras: Float64, path: Path) -> None:
    nifti = nib.Nifti1Image(voxels, affine_ras)
    nifti.header.set_xyzt_units("mm")
    nifti.set_qform(affine_ras, code=1)
    nifti.set_sform(affine_ras, code=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("wb") as file:
            file.write(gzip.compress(nifti.to_bytes(), compresslevel=1, mtime=0))
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


# ---------------------------------------------------------------- rules of the arguments


def _check_shift(shift: str, seed: int) -> None:
    if shift not in SHIFTS:
        near = difflib.get_close_matches(shift, SHIFTS, n=1, cutoff=0.0)[0]
        raise ValueError(
            f"shift must be one of {', '.join(SHIFTS)}, got {shift!r}. Did you mean {near!r}?"
        )
    if seed < 0:
        raise ValueError(f"seed must be at least 0, got {seed}. Count cases from 0.")


def _check_spacing(spacing: Sequence[float]) -> None:
    if len(spacing) != 3 or not all(0 < size < np.inf for size in spacing):
        raise ValueError(
            f"spacing must be three distances in mm above 0, got {tuple(spacing)}. "
            "Take for example (0.6, 0.6, 3.0)."
        )


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


def _check_image(image: Float32, spacing: Sequence[float], severity: float) -> None:
    _check_spacing(spacing)
    if image.ndim != 3:
        raise ValueError(
            f"image must have three axes, got shape {image.shape}. Pass one channel of one case."
        )
    if not 0 <= severity < np.inf:
        raise ValueError(f"severity must be at least 0, got {severity}. Take 1 for a plain case.")


# ---------------------------------------------------------------- the patient


@dataclass(frozen=True)
class _Tissue:
    """Mean signal, relative texture, and the share lost (or gained, if negative) in septa."""

    mean: float
    texture: float = 0.08
    septa: float = 0.0


@dataclass(frozen=True)
class _Body:
    """A superellipsoid in mm; `taper` per mm and `lean` (mm forwards per mm) go with height."""

    centre: Point
    radii: Point
    yaw: float = 0.0  # degrees about the long axis of the trunk
    power: float = 2.0
    taper: float = 0.0
    lean: float = 0.0


@dataclass(frozen=True)
class _Part:
    """What to paint: the inside of a body but for its outer `inset` mm, or its `shell` in mm."""

    body: _Body
    tissue: _Tissue
    inset: float = 0.0
    shell: float = 0.0


@dataclass(frozen=True)
class _Gland:
    """The prostate: half axes in mm, departures from an ellipsoid, and what lies inside."""

    radii: Point
    power: float
    taper: float
    groove: float
    zone: _Body = _Body((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # transition zone
    brightness: float = 1.0
    lesions: tuple[_Part, ...] = ()  # in the peripheral zone
    nodules: tuple[_Part, ...] = ()  # in the transition zone


@dataclass(frozen=True)
class _Patient:
    """Everything that a seed decides about the anatomy."""

    gland: _Gland
    parts: tuple[_Part, ...]
    world: Point  # of the gland's centre, RAS mm
    isocentre: Point  # of the grid, in patient mm
    waves: Float64  # rows: amplitude in mm, wave vector per mm, phase
    coil: _Body | None


AIR = _Tissue(4.0, 0.0)
SKIN = _Tissue(170.0)
FAT = _Tissue(500.0, 0.08, 0.28)
MUSCLE = _Tissue(88.0, 0.16, -0.25)
STREAKED_MUSCLE = _Tissue(80.0, 0.20, -1.4)
CORTEX = _Tissue(36.0)
MARROW = _Tissue(250.0, 0.13)
HEAD_MARROW = _Tissue(320.0, 0.10)
CARTILAGE = _Tissue(120.0)
URINE = _Tissue(1000.0, 0.01)
WALL = _Tissue(150.0, 0.15)
VESICLE = _Tissue(620.0, 0.22, 0.8)
PLEXUS = _Tissue(380.0, 0.35, 0.4)
VESSEL = _Tissue(66.0)
VEIN = _Tissue(210.0, 0.12)
BULB = _Tissue(640.0, 0.10)
URETHRA = _Tissue(380.0)
CAPSULE = _Tissue(110.0, 0.4)
RECTAL_CONTENTS = (AIR, AIR, _Tissue(240.0, 0.5), _Tissue(640.0, 0.12))


def _point(values: Sequence[float] | Float64) -> Point:
    return (float(values[0]), float(values[1]), float(values[2]))


def _draw_patient(seed: int, *, has_coil: bool) -> _Patient:
    rng = default_rng((seed, 0))
    gland = _draw_gland(rng)
    parts = tuple(_draw_surroundings(rng, gland.radii))
    directions = rng.normal(size=(9, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    waves = np.empty((9, 5))
    waves[:, 0] = rng.uniform(0.6, 1.3, 9)
    waves[:, 1:4] = directions * (2 * np.pi / rng.uniform(28, 70, (9, 1)))
    waves[:, 4] = rng.uniform(0, 2 * np.pi, 9)
    world = _point(rng.uniform((-12, -25, -40), (12, 25, 40)))
    isocentre = _point(rng.uniform((-4, -8, -3), (4, 4, 5)))
    coil = _draw_coil(rng, gland.radii) if has_coil else None
    return _Patient(gland, parts, world, isocentre, waves, coil)


def _draw_gland(rng: Generator) -> _Gland:
    volume = float(np.clip(np.exp(rng.normal(np.log(45), 0.5)), 17, 105))  # ml
    shape = np.array([1.22, 0.94, 1.0]) * rng.uniform(0.92, 1.08, 3)
    power, taper, groove = rng.uniform((2.1, 0.1, 0.02), (2.6, 0.3, 0.14)).tolist()
    unit = _unit_volume(_Gland(_point(shape), power, taper, groove))
    radii = shape * (volume * 1000 / unit) ** (1 / 3)
    share = float(np.clip(0.48 + 0.14 * np.log(volume / 45) + rng.normal(0, 0.05), 0.25, 0.75))
    inner = radii * (0.97, 0.95, 0.98) * share ** (1 / 3)
    centre = (0.0, float(0.7 * (radii[1] - inner[1])), float(0.6 * (radii[2] - inner[2])))
    zone = _Body(centre, _point(inner), power=2.3, taper=float(0.2 / radii[2]))
    brightness = float(rng.uniform(0.75, 1.1))
    lesions = tuple(_draw_lesions(rng, radii))
    nodules = tuple(_draw_nodules(rng, zone, brightness))
    return _Gland(_point(radii), power, taper, groove, zone, brightness, lesions, nodules)


def _unit_volume(gland: _Gland) -> float:
    """Volume inside the gland's surface, by counting points."""
    axis = np.linspace(-1.7, 1.7, 48, dtype=np.float32)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    return float(np.mean(_gland_distance(gland, (x, y, z)) < 0)) * 3.4**3


def _draw_lesions(rng: Generator, radii: Float64) -> Iterator[_Part]:
    for _ in range(int(rng.integers(0, 3))):
        angle = np.deg2rad(rng.uniform(190, 350))
        place = 0.82 * radii * (np.cos(angle), np.sin(angle), rng.uniform(-0.5, 0.5))
        body = _Body(_point(place), _point(rng.uniform(3, 7, 3)), yaw=float(rng.uniform(0, 180)))
        yield _Part(body, _Tissue(float(rng.uniform(150, 260)), 0.12))


def _draw_nodules(rng: Generator, zone: _Body, brightness: float) -> Iterator[_Part]:
    radii = np.array(zone.radii)
    for _ in range(int(np.prod(radii) / 600) + int(rng.integers(3, 8))):
        direction = rng.normal(size=3)
        direction *= rng.uniform(0.15, 0.85) / np.linalg.norm(direction)
        size = rng.uniform(0.13, 0.34) * np.mean(radii) * rng.uniform(0.75, 1.25, 3)
        place = _point(zone.centre + direction * radii)
        body = _Body(place, _point(size), yaw=float(rng.uniform(0, 180)))
        yield _Part(body, _Tissue(105.0))
        mean = brightness * float(rng.choice((150.0, 200.0, 310.0, 430.0)))
        yield _Part(body, _Tissue(mean, 0.24, 0.15), inset=0.8)
    x, y, z = zone.radii
    stroma = _Body((0.0, zone.centre[1] + 0.98 * y, 0.0), (0.5 * x, 0.25 * y, 0.8 * z))
    yield _Part(stroma, CAPSULE)
    yield _Part(_Body((0.0, 0.0, -4.0), (2.6, 2.2, 0.9 * z), lean=0.2), URETHRA)


def _draw_coil(rng: Generator, radii: Point) -> _Body:
    width, depth, push = rng.uniform((19, 16, 7), (24, 20, 11)).tolist()
    return _Body((0.0, push - radii[1] - depth - 1.5, 0.0), (width, depth, 42.0), power=2.4)


def _draw_surroundings(rng: Generator, radii: Point) -> Iterator[_Part]:
    a, b, c = radii
    thick, cleft, high, wide = rng.uniform((14, 18, 16, 30), (32, 30, 34, 44)).tolist()
    front, back = b + 46 + thick, -b - 58 - thick
    trunk = _Body((0.0, (front + back) / 2, 0.0), (190.0, (front - back) / 2, COLUMN), power=2.8)
    yield _Part(trunk, SKIN)
    yield _Part(trunk, FAT, inset=1.8)
    yield _Part(_Body((0.0, back, -25.0), (1.8, cleft, 70.0)), AIR)
    levator = _Body((0.0, -16.0, 0.0), (a + 7, b + 30, COLUMN), power=1.8, taper=0.008)
    yield _Part(levator, _Tissue(110.0, 0.2), shell=2.6)
    for side in (-1.0, 1.0):
        yield from _draw_side(rng, side, (max(a + 15, 40.0), b, c))
    yield _Part(_Body((0.0, b + 21, -6.0), (3.5, 14.0, 22.0), lean=0.3), CARTILAGE)
    coccyx = _Body((0.0, -b - 50, 18.0), (11.0, 6.0, 28.0), lean=-0.4)
    yield _Part(coccyx, CORTEX)
    yield _Part(coccyx, MARROW, inset=1.8)
    bladder = _Body((0.0, 6.0, c + 0.8 * high), (wide, 26.0, high), power=2.3)
    yield _Part(bladder, WALL)
    yield _Part(bladder, URINE, inset=float(rng.uniform(2.5, 5)))
    size, off, thick = rng.uniform((9, -4, 2.8), (18, 4, 4.2)).tolist()
    rectum = _Body((off, -b - size - 3.5, 0.0), (1.1 * size, size, COLUMN), taper=0.006, lean=-0.2)
    yield _Part(rectum, WALL)
    yield _Part(rectum, RECTAL_CONTENTS[int(rng.integers(4))], inset=thick)
    sphincter = _Body((0.0, 1.0, -c - 8), (8.0, 8.0, 16.0))
    yield _Part(sphincter, WALL)
    yield _Part(sphincter, URETHRA, inset=4.0)
    yield _Part(_Body((0.0, 4.0, -c - 24), (14.0, 11.0, 9.0)), BULB)


def _draw_side(rng: Generator, side: float, extent: Point) -> Iterator[_Part]:
    """Draw what is paired: muscles, bones, vessels, seminal vesicles of one side."""
    x, b, c = extent
    t = COLUMN
    # fmt: off
    rows: tuple[tuple[Point, Point, float, float, tuple[tuple[_Tissue, float], ...]], ...] = (
        # centre             radii         yaw  power  tissues, each with its inset
        ((x + 18, -b - 50, -5.0), (58.0, 13.0, t), -14.0, 3.0, ((STREAKED_MUSCLE, 0.0),)),
        ((x + 44, 22.0, 0.0), (34.0, 44.0, t), 0.0, 2.8, ((MUSCLE, 0.0),)),
        ((x + 34, -32.0, 4.0), (24.0, 7.0, 40.0), 10.0, 2.4, ((STREAKED_MUSCLE, 0.0),)),
        ((x + 8, b + 25, -24.0), (36.0, 10.0, 30.0), -28.0, 2.6, ((MUSCLE, 0.0),)),
        ((15.0, b + 42, 26.0), (15.0, 6.0, 44.0), -6.0, 2.6, ((MUSCLE, 0.0),)),
        ((19.0, b + 22, -6.0), (19.0, 14.0, 22.0), -22.0, 2.5, ((CORTEX, 0.0), (MARROW, 1.8))),
        ((x + 6, b + 21, 12.0), (32.0, 9.0, 10.0), -10.0, 2.4, ((CORTEX, 0.0), (MARROW, 1.6))),
        ((x + 19, -14.0, -14.0), (13.0, 25.0, 46.0), 10.0, 2.4, ((CORTEX, 0.0), (MARROW, 2.0))),
        ((x + 20, 8.0, 20.0), (13.0, 30.0, 25.0), 4.0, 2.4, ((CORTEX, 0.0), (MARROW, 2.0))),
        ((x + 47, 4.0, 12.0), (25.0, 25.0, 25.0), 0.0, 2.1, ((CORTEX, 0.0), (HEAD_MARROW, 1.5))),
        ((x + 2, 4.0, -4.0), (7.0, 40.0, 50.0), -6.0, 2.6, ((MUSCLE, 0.0),)),
        ((x + 13, -38.0, -4.0), (18.0, 6.0, 28.0), 32.0, 2.4, ((MUSCLE, 0.0),)),
        ((x + 16, b + 40, 0.0), (5.0, 5.0, t), 0.0, 2.0, ((VESSEL, 0.0), (AIR, 1.4))),
        ((x + 4, b + 38, 0.0), (6.0, 6.0, t), 0.0, 2.0, ((VESSEL, 0.0), (VEIN, 1.2))),
        ((25.0, b + 56, 0.0), (6.0, 6.0, t), 0.0, 2.0, ((VESSEL, 0.0), (PLEXUS, 1.2))),
        ((15.0, -0.62 * b, c + 2), (17.0, 6.5, 8.0), -14.0, 2.0, ((VESSEL, 0.0), (VESICLE, 0.8))),
    )
    # fmt: on
    for centre, radii, yaw, power, layers in rows:
        moved = np.array(centre) + rng.normal(0, (1.0, 1.0, 1.5))
        grown = np.array(radii) * rng.normal(1, 0.05)
        turn = side * (yaw + float(rng.normal(0, 3)))
        place = (side * float(moved[0]), float(moved[1]), float(moved[2]))
        body = _Body(place, _point(grown), turn, power)
        for tissue, inset in layers:
            yield _Part(body, tissue, inset=float(inset))


def _body_distance(body: _Body, points: Points) -> Float32:
    """Distance in mm to the surface along the ray from the centre; negative inside."""
    x, y, z = (values - centre for values, centre in zip(points, body.centre, strict=True))
    a, b, c = body.radii
    if body.lean:
        y = y - body.lean * z
    if body.yaw:
        cosine, sine = float(np.cos(np.deg2rad(body.yaw))), float(np.sin(np.deg2rad(body.yaw)))
        x, y = cosine * x + sine * y, cosine * y - sine * x
    squared = x * x + y * y
    if body.taper:
        width = np.clip(1 + body.taper * z, 0.25, 1.75)
        x, y = x / width, y / width
    if c == COLUMN:
        return _ray_distance(squared, (x / a, y / b), body.power)
    return _ray_distance(squared + z * z, (x / a, y / b, z / c), body.power)


def _gland_distance(gland: _Gland, points: Points) -> Float32:
    """Distance in mm to the capsule along the ray from the centre; negative inside."""
    x, y, z = points
    a, b, c = gland.radii
    w = z / c
    width = np.clip(1 + gland.taper * w, 0.5, 1.3)
    u, v = x / (a * width), y / (b * width)
    behind = np.clip(-v, 0, 1)
    v = v * (1 + 0.16 * behind) - gland.groove * behind * np.exp(-9 * u * u)
    return _ray_distance(x * x + y * y + z * z, (u, v, w), gland.power)


def _ray_distance(squared: Float32, terms: tuple[Float32, ...], power: float) -> Float32:
    if power == 2.0:
        level = np.sqrt(sum(term * term for term in terms))
    else:
        level = sum(np.abs(term) ** power for term in terms) ** (1 / power)
    return np.asarray(np.sqrt(squared) * (1 - 1 / np.maximum(level, 1e-3)))


def _undo_coil(coil: _Body, depth: float, points: Points) -> Points:
    """Where each point lay before the balloon pushed the gland, of half `depth`, forwards."""
    x, y, z = points
    push = coil.centre[1] + coil.radii[1] + 1.5 + depth
    profile = np.clip((depth + 22 - y) / (2 * depth + 22), 0, 1)
    near = np.exp(-((x / 26) ** 2 + (z / 40) ** 2) / 2)
    squeeze = near * profile * profile * (3 - 2 * profile)
    return x * (1 - 0.22 * squeeze), y - push * squeeze, z


# ---------------------------------------------------------------- the painter


@dataclass(frozen=True)
class _Grid:
    """A canonical (RAS-like) grid of voxels."""

    matrix: Float64  # voxel index -> patient mm
    shape: tuple[int, int, int]
    spacing: Point


def _patient_matrix(
    patient: _Patient, spacing: Point, shape: tuple[int, int, int], degrees: float
) -> Float64:
    """Voxel index -> patient mm, turned about a slanting axis through the grid's centre."""
    x, y, z = np.array([0.9, 0.35, 0.26]) / np.linalg.norm([0.9, 0.35, 0.26])
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(degrees)
    turn = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    matrix = np.eye(4)
    matrix[:3, :3] = turn * spacing
    matrix[:3, 3] = patient.isocentre - matrix[:3, :3] @ ((np.array(shape) - 1) / 2)
    return matrix


def _render(patient: _Patient, grid: _Grid, seed: int) -> tuple[Float32, Float32]:
    """Paint every slice as the mean of thin sub-slices; give image and share of gland."""
    texture, septa = _sample_textures(grid, default_rng((seed, 1)))
    windows = _Windows(grid)
    count = int(np.clip(round(grid.spacing[2]), 1, 4))
    image = np.zeros(grid.shape, dtype=np.float32)
    gland_share = np.zeros(grid.shape, dtype=np.float32)
    for k in range(grid.shape[2]):
        heights = (k + (np.arange(count) + 0.5) / count - 0.5).astype(np.float32)
        painter = _Painter(patient, windows, heights, texture[k : k + 1], septa[k : k + 1])
        canvas, share = painter.paint()
        image[:, :, k], gland_share[:, :, k] = canvas.mean(axis=0), share.mean(axis=0)
    rng = default_rng((seed, 2))
    image = ndimage.gaussian_filter(image, (0.5, 0.5, 0))  # a scanner samples less than it writes
    image *= float(np.exp(rng.normal(0, 0.15))) * _bias_field(grid.shape, 0.12, rng)
    return image, gland_share


def _sample_textures(grid: _Grid, rng: Generator) -> tuple[Float32, Float32]:
    """Sample two periodic fields fixed to the patient, slices first: texture, and thin sheets."""
    knots = 96
    frequency = np.fft.fftfreq(knots)
    x, y, z = np.meshgrid(frequency, frequency, frequency[: knots // 2 + 1], sparse=True)
    wave = np.sqrt(x * x + y * y + z * z).astype(np.float32)
    sampled = []
    for scale, weight in (
        (1.1, 1 / (wave + 0.03) ** 1.3),
        (1.3, np.exp(-((wave / 0.09) ** 2)) * wave),
    ):
        noise = rng.standard_normal((knots,) * 3, dtype=np.float32)
        field = np.fft.irfftn(np.fft.rfftn(noise) * weight, s=noise.shape, axes=(0, 1, 2))
        field = (field / field.std()).astype(np.float32)
        matrix = grid.matrix[:3, [2, 0, 1]] / scale
        output = np.empty((grid.shape[2], *grid.shape[:2]), dtype=np.float32)
        offset = grid.matrix[:3, 3] / scale
        ndimage.affine_transform(field, matrix, offset, output=output, order=1, mode="grid-wrap")
        sampled.append(output)
    texture, sheets = sampled
    septa = np.exp(-((sheets / 0.2) ** 2)) * np.clip(0.4 + 0.8 * texture, 0, 1.4)
    return texture, np.asarray(septa, dtype=np.float32)


class _Windows:
    """Where on a grid each body can be seen, worked out once per body."""

    def __init__(self, grid: _Grid) -> None:
        self.grid = grid
        self._inverse = np.linalg.inv(grid.matrix)
        size = np.array(grid.shape) * grid.spacing
        self._farthest = 2 * float(np.linalg.norm(size)) + 200  # mm, taller than any grid
        self._bounds: dict[_Body, tuple[list[int], list[int]]] = {}

    def find(self, body: _Body, heights: Float32) -> Window | None:
        """Give the part of the sub-slices at `heights` that the body can reach, if any."""
        if body not in self._bounds:
            self._bounds[body] = self._measure(body)
        first, last = self._bounds[body]
        if heights[-1] < first[2] or heights[0] > last[2]:
            return None
        if first[0] >= last[0] or first[1] >= last[1]:
            return None
        return slice(None), slice(first[0], last[0]), slice(first[1], last[1])

    def _measure(self, body: _Body) -> tuple[list[int], list[int]]:
        a, b, c = (min(r * (1.75 if body.taper else 1.0), self._farthest) for r in body.radii)
        cosine, sine = abs(np.cos(np.deg2rad(body.yaw))), abs(np.sin(np.deg2rad(body.yaw)))
        reach = np.array([cosine * a + sine * b, sine * a + cosine * b + abs(body.lean) * c, c])
        centre = self._inverse[:3, :3] @ body.centre + self._inverse[:3, 3]
        spread = np.abs(self._inverse[:3, :3]) @ (reach + MOVED)
        first = np.clip(np.floor(centre - spread), -1, self.grid.shape)
        last = np.clip(np.ceil(centre + spread) + 1, -1, self.grid.shape)
        first[:2], last[:2] = np.maximum(first[:2], 0), np.maximum(last[:2], 0)
        return first.astype(int).tolist(), last.astype(int).tolist()


class _Painter:
    """One slice of one patient as a stack of thin sub-slices, painted from the skin inwards."""

    def __init__(
        self,
        patient: _Patient,
        windows: _Windows,
        heights: Float32,
        texture: Float32,
        septa: Float32,
    ) -> None:
        grid = windows.grid
        stack = (len(heights), *grid.shape[:2])
        self._patient = patient
        self._windows = windows
        self._heights = heights
        self._texture = texture
        self._septa = septa
        self._edge = max(grid.spacing[:2])
        self._canvas = np.full(stack, AIR.mean, dtype=np.float32)
        self._share = np.zeros(stack, dtype=np.float32)
        self._straight = self._sample_points(grid)
        self._points = self._bend(self._straight)

    def paint(self) -> tuple[Float32, Float32]:
        """Give the signal and the share of gland in every pixel."""
        for part in self._patient.parts:
            self._paint_part(part, self._points)
        if self._patient.coil is not None:
            self._paint_part(_Part(self._patient.coil, WALL), self._straight)
            self._paint_part(_Part(self._patient.coil, AIR, inset=2.0), self._straight)
        self._paint_gland(self._patient.gland)
        self._canvas *= 1 + 0.6 * (self._straight[1] / 85) ** 2  # surface coils, front and back
        return self._canvas, self._share

    def _sample_points(self, grid: _Grid) -> Points:
        i, j = np.indices(grid.shape[:2], dtype=np.float32)
        k = self._heights[:, None, None]
        x, y, z = (u * i + v * j + w * k + start for u, v, w, start in grid.matrix[:3].tolist())
        return x, y, z

    def _bend(self, points: Points) -> Points:
        """Move points along smooth waves, so that nothing is a perfect ellipse."""
        bent = list(points)
        x, y, z = points
        for number, (amplitude, kx, ky, kz, phase) in enumerate(self._patient.waves.tolist()):
            wave = amplitude * np.sin(kx * x + ky * y + kz * z + phase)
            bent[number % 3] = np.asarray(bent[number % 3] + wave, dtype=np.float32)
        moved = bent[0], bent[1], bent[2]
        if self._patient.coil is None:
            return moved
        return _undo_coil(self._patient.coil, self._patient.gland.radii[1], moved)

    def _paint_part(self, part: _Part, points: Points, mask: Float32 | None = None) -> None:
        window = self._windows.find(part.body, self._heights)
        if window is None:
            return
        x, y, z = (values[window] for values in points)
        distance = _body_distance(part.body, (x, y, z))
        if part.shell:
            distance = np.asarray(np.abs(distance) - part.shell / 2, dtype=np.float32)
        cover = self._cover(distance + part.inset)
        self._blend(window, cover if mask is None else cover * mask[window], part.tissue)

    def _paint_gland(self, gland: _Gland) -> None:
        a, b, c = gland.radii
        outline = _Body((0.0, 0.0, 0.0), (1.3 * a, 1.3 * b, 1.3 * c))
        window = self._windows.find(outline, self._heights)
        if window is None:
            return
        x, y, z = (values[window] for values in self._points)
        distance = _gland_distance(gland, (x, y, z))
        self._share[window] = self._cover(distance)
        around = np.clip(0.8 - distance / 7.5, 0, 0.8).astype(np.float32)
        self._blend(window, around, PLEXUS)
        thin = np.multiply(self._share[window], 0.85, dtype=np.float32)
        self._blend(window, thin, CAPSULE)
        inside = np.zeros_like(self._share)
        inside[window] = self._cover(distance + 0.9)
        self._blend(window, inside[window], _Tissue(560.0 * gland.brightness, 0.20, 0.3))
        for part in gland.lesions:
            self._paint_part(part, self._points, inside)
        zone = _body_distance(gland.zone, (x, y, z))
        self._blend(window, inside[window] * self._cover(zone), CAPSULE)
        inside[window] *= self._cover(zone + 0.9)
        self._blend(window, inside[window], _Tissue(240.0 * gland.brightness, 0.28, 0.1))
        for part in gland.nodules:
            self._paint_part(part, self._points, inside)

    def _cover(self, distance: Float32) -> Float32:
        """Share of a pixel that lies inside, from the distance of its centre to the surface."""
        return np.asarray(np.clip(0.5 - distance / self._edge, 0, 1), dtype=np.float32)

    def _blend(self, window: Window, cover: Float32, tissue: _Tissue) -> None:
        signal = 1 + tissue.texture * self._texture[window] - tissue.septa * self._septa[window]
        canvas = self._canvas[window]
        canvas += cover * (tissue.mean * np.maximum(signal, 0.05) - canvas)


def _reorient(image: Float32, label: UInt8, affine_ras: Float64, orientation: str) -> PhantomCase:
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(orientation))
    return PhantomCase(
        image=np.ascontiguousarray(apply_orientation(image, turn)),
        label=np.ascontiguousarray(apply_orientation(label, turn)),
        affine_ras=affine_ras @ inv_ornt_aff(turn, image.shape),
    )


# ---------------------------------------------------------------- the scanner


def _coil_index(patient: _Patient, grid: _Grid) -> Point | None:
    """Find the voxel at the front of the balloon, where the receive coil sits."""
    if patient.coil is None:
        return None
    x, y, z = patient.coil.centre
    front = np.array([x, y + 0.7 * patient.coil.radii[1], z, 1.0])
    return _point((np.linalg.inv(grid.matrix) @ front)[:3])


def _coil_sensitivity(
    shape: tuple[int, ...], spacing: Float64, centre: Point | None, severity: float
) -> Float32:
    """Steep fall-off of a small receive coil: 2.6 next to it, 0.7 at 30 mm, 0.2 far away."""
    x, y, z = np.indices(shape, dtype=np.float32, sparse=True)
    middle = centre or _point([(n - 1) / 2 for n in shape])
    sizes = _point(spacing)
    squared = (
        ((x - middle[0]) * sizes[0]) ** 2
        + ((y - middle[1]) * sizes[1]) ** 2
        + ((z - middle[2]) * sizes[2] / 1.8) ** 2
    )
    sensitivity = 0.22 + 2.4 / (1 + squared / 22**2) ** 1.5
    return np.asarray(sensitivity**severity)


def _lower_field(image: Float32, spacing: Float64, severity: float, rng: Generator) -> Float32:
    """Less signal: blurred, contrast drawn together, and noisy."""
    blurred = ndimage.gaussian_filter(image, 0.8 * severity / spacing)
    bright = float(np.percentile(image, 99)) + 1e-6
    body = np.clip(blurred / (0.1 * bright), 0, 1)
    middle = float(np.sum(body * blurred) / np.sum(body))
    flat = blurred + min(0.35 * severity, 0.8) * body * (middle - blurred)
    return _add_noise(flat, sigma=0.05 * severity * bright, rng=rng)


def _bias_field(shape: tuple[int, ...], strength: float, rng: Generator) -> Float32:
    """A smooth positive field, the exponential of a slope and two cosines."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij")
    slope = rng.normal(size=3) * (1, 1, 0.3)
    slope = slope / np.linalg.norm(slope)
    (curve_x, phase_x), (curve_y, phase_y) = rng.uniform((0.3, -0.6), (1, 0.6), (2, 2)).tolist()
    field = float(slope[0]) * x + float(slope[1]) * y + float(slope[2]) * z
    field += curve_x * (np.cos(2.2 * x + phase_x) - 0.6)
    field += curve_y * (np.cos(2.2 * y + phase_y) - 0.6)
    return np.asarray(np.exp(strength * field))


def _invert_contrast(image: Float32, severity: float) -> Float32:
    """Dark tissue bright and bright dark, as T1 against T2; air stays dark."""
    top = float(np.percentile(image, 99)) + 1e-6
    level = np.clip(image / top, 0, 1)
    body = np.clip(level / 0.06, 0, 1)
    weight = min(severity, 1.0)
    inverted = top * (0.08 + 0.8 * (1 - level)) * body
    return np.asarray((1 - weight) * image + weight * inverted)


def _move(image: Float32, spacing: Float64, severity: float, rng: Generator) -> Float32:
    """Breathing and drift while k-space is filled, along the first axis of finest spacing."""
    axis = int(np.argmin(spacing))
    lines = image.shape[axis]
    time = np.linspace(0, 1, lines)
    breaths, phase = rng.uniform((7, 0), (14, 2 * np.pi))
    drift = np.cumsum(rng.normal(0, 1 / np.sqrt(lines), lines))
    moved = severity * (1.2 * np.sin(2 * np.pi * breaths * time + phase) + drift) / spacing[axis]
    ramp = np.exp(-2j * np.pi * np.fft.fftfreq(lines) * np.fft.ifftshift(moved))
    ramp = ramp.astype(np.complex64).reshape([lines if n == axis else 1 for n in range(3)])
    ghosted = np.fft.ifft(np.fft.fft(image, axis=axis) * ramp, axis=axis)
    return np.abs(ghosted).astype(np.float32)


def _add_noise(image: Float32, *, sigma: float, rng: Generator) -> Float32:
    """Rician noise: the magnitude of a signal with equal noise in both channels."""
    real = image + sigma * rng.standard_normal(image.shape, dtype=np.float32)
    return np.asarray(np.hypot(real, sigma * rng.standard_normal(image.shape, dtype=np.float32)))
