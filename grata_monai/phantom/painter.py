"""The painter: a patient on a grid of voxels, slice by slice, each the mean of thin sub-slices."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator, default_rng
from scipy import ndimage

from grata_monai.phantom.anatomy import (
    AIR,
    CAPSULE,
    PLEXUS,
    WALL,
    Gland,
    Part,
    Patient,
    Tissue,
    gland_distance,
    undo_coil,
)
from grata_monai.phantom.geometry import Body, Float32, Float64, Point, Points, body_distance
from grata_monai.phantom.scanner import bias_field

__all__ = ["Grid", "patient_matrix", "render"]

Window = tuple[slice, slice, slice]  # of a stack of sub-slices

MOVED = 14.0  # mm, more than waves and coil ever move a point


@dataclass(frozen=True)
class Grid:
    """A canonical (RAS-like) grid of voxels."""

    matrix: Float64  # voxel index -> patient mm
    shape: tuple[int, int, int]
    spacing: Point


def patient_matrix(
    patient: Patient, spacing: Point, shape: tuple[int, int, int], degrees: float
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


def render(patient: Patient, grid: Grid, seed: int) -> tuple[Float32, Float32]:
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
    image *= float(np.exp(rng.normal(0, 0.15))) * bias_field(grid.shape, 0.12, rng)
    return image, gland_share


def _sample_textures(grid: Grid, rng: Generator) -> tuple[Float32, Float32]:
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

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self._inverse = np.linalg.inv(grid.matrix)
        size = np.array(grid.shape) * grid.spacing
        self._farthest = 2 * float(np.linalg.norm(size)) + 200  # mm, taller than any grid
        self._bounds: dict[Body, tuple[list[int], list[int]]] = {}

    def find(self, body: Body, heights: Float32) -> Window | None:
        """Give the part of the sub-slices at `heights` that the body can reach, if any."""
        if body not in self._bounds:
            self._bounds[body] = self._measure(body)
        first, last = self._bounds[body]
        if heights[-1] < first[2] or heights[0] > last[2]:
            return None
        if first[0] >= last[0] or first[1] >= last[1]:
            return None
        return slice(None), slice(first[0], last[0]), slice(first[1], last[1])

    def _measure(self, body: Body) -> tuple[list[int], list[int]]:
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
        patient: Patient,
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
            self._paint_part(Part(self._patient.coil, WALL), self._straight)
            self._paint_part(Part(self._patient.coil, AIR, inset=2.0), self._straight)
        self._paint_gland(self._patient.gland)
        self._canvas *= 1 + 0.6 * (self._straight[1] / 85) ** 2  # surface coils, front and back
        return self._canvas, self._share

    def _sample_points(self, grid: Grid) -> Points:
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
        return undo_coil(self._patient.coil, self._patient.gland.radii[1], moved)

    def _paint_part(self, part: Part, points: Points, mask: Float32 | None = None) -> None:
        window = self._windows.find(part.body, self._heights)
        if window is None:
            return
        x, y, z = (values[window] for values in points)
        distance = body_distance(part.body, (x, y, z))
        if part.shell:
            distance = np.asarray(np.abs(distance) - part.shell / 2, dtype=np.float32)
        cover = self._cover(distance + part.inset)
        self._blend(window, cover if mask is None else cover * mask[window], part.tissue)

    def _paint_gland(self, gland: Gland) -> None:
        a, b, c = gland.radii
        outline = Body((0.0, 0.0, 0.0), (1.3 * a, 1.3 * b, 1.3 * c))
        window = self._windows.find(outline, self._heights)
        if window is None:
            return
        x, y, z = (values[window] for values in self._points)
        distance = gland_distance(gland, (x, y, z))
        self._share[window] = self._cover(distance)
        around = np.clip(0.8 - distance / 7.5, 0, 0.8).astype(np.float32)
        self._blend(window, around, PLEXUS)
        thin = np.multiply(self._share[window], 0.85, dtype=np.float32)
        self._blend(window, thin, CAPSULE)
        inside = np.zeros_like(self._share)
        inside[window] = self._cover(distance + 0.9)
        self._blend(window, inside[window], Tissue(560.0 * gland.brightness, 0.20, 0.3))
        for part in gland.lesions:
            self._paint_part(part, self._points, inside)
        zone = body_distance(gland.zone, (x, y, z))
        self._blend(window, inside[window] * self._cover(zone), CAPSULE)
        inside[window] *= self._cover(zone + 0.9)
        self._blend(window, inside[window], Tissue(240.0 * gland.brightness, 0.28, 0.1))
        for part in gland.nodules:
            self._paint_part(part, self._points, inside)

    def _cover(self, distance: Float32) -> Float32:
        """Share of a pixel that lies inside, from the distance of its centre to the surface."""
        return np.asarray(np.clip(0.5 - distance / self._edge, 0, 1), dtype=np.float32)

    def _blend(self, window: Window, cover: Float32, tissue: Tissue) -> None:
        signal = 1 + tissue.texture * self._texture[window] - tissue.septa * self._septa[window]
        canvas = self._canvas[window]
        canvas += cover * (tissue.mean * np.maximum(signal, 0.05) - canvas)
