"""The scanner: what another machine does to the intensities while the anatomy stays."""

import difflib
from collections.abc import Sequence

import numpy as np
from numpy.random import Generator, default_rng
from scipy import ndimage

from grata_monai.phantom.geometry import Float32, Float64, Point, to_point

__all__ = [
    "SHIFTS",
    "add_noise",
    "apply_scanner_shift",
    "bias_field",
    "check_shift",
    "check_spacing",
]

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
    check_shift(shift, seed)
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
        shifted = clean * bias_field(clean.shape, 0.8 * severity, rng)
    elif shift == "contrast_inversion":
        shifted = _invert_contrast(clean, severity)
    elif shift == "motion":
        shifted = _move(clean, sizes, severity, rng)
    else:
        sigmas = 0.8 * severity * (np.arange(3) == np.argmax(sizes))
        shifted = ndimage.gaussian_filter(clean, sigmas)
    return np.asarray(shifted, dtype=np.float32)


def check_shift(shift: str, seed: int) -> None:
    """Refuse a shift without a name in `SHIFTS`, or a seed below 0, with `ValueError`."""
    if shift not in SHIFTS:
        near = difflib.get_close_matches(shift, SHIFTS, n=1, cutoff=0.0)[0]
        raise ValueError(
            f"shift must be one of {', '.join(SHIFTS)}, got {shift!r}. Did you mean {near!r}?"
        )
    if seed < 0:
        raise ValueError(f"seed must be at least 0, got {seed}. Count cases from 0.")


def check_spacing(spacing: Sequence[float]) -> None:
    """Refuse anything but three finite distances above 0 (mm) with `ValueError`."""
    if len(spacing) != 3 or not all(0 < size < np.inf for size in spacing):
        raise ValueError(
            f"spacing must be three distances in mm above 0, got {tuple(spacing)}. "
            "Take for example (0.6, 0.6, 3.0)."
        )


def _check_image(image: Float32, spacing: Sequence[float], severity: float) -> None:
    check_spacing(spacing)
    if image.ndim != 3:
        raise ValueError(
            f"image must have three axes, got shape {image.shape}. Pass one channel of one case."
        )
    if not 0 <= severity < np.inf:
        raise ValueError(f"severity must be at least 0, got {severity}. Take 1 for a plain case.")


def _coil_sensitivity(
    shape: tuple[int, ...], spacing: Float64, centre: Point | None, severity: float
) -> Float32:
    """Steep fall-off of a small receive coil: 2.6 next to it, 0.7 at 30 mm, 0.2 far away."""
    x, y, z = np.indices(shape, dtype=np.float32, sparse=True)
    middle = centre or to_point([(n - 1) / 2 for n in shape])
    sizes = to_point(spacing)
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
    return add_noise(flat, sigma=0.05 * severity * bright, rng=rng)


def bias_field(shape: tuple[int, ...], strength: float, rng: Generator) -> Float32:
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


def add_noise(image: Float32, *, sigma: float, rng: Generator) -> Float32:
    """Rician noise: the magnitude of a signal with equal noise in both channels."""
    real = image + sigma * rng.standard_normal(image.shape, dtype=np.float32)
    return np.asarray(np.hypot(real, sigma * rng.standard_normal(image.shape, dtype=np.float32)))
