"""The patient: all that a seed decides about the pelvis, as a list of bodies to paint in turn."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator, default_rng

from grata_monai.phantom.geometry import (
    COLUMN,
    Body,
    Float32,
    Float64,
    Point,
    Points,
    ray_distance,
    to_point,
)

__all__ = [
    "AIR",
    "CAPSULE",
    "PLEXUS",
    "WALL",
    "Gland",
    "Part",
    "Patient",
    "Tissue",
    "draw_patient",
    "gland_distance",
    "undo_coil",
]

UNIT_BALL = Body((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@dataclass(frozen=True)
class Tissue:
    """Mean signal, relative texture, and the share lost (or gained, if negative) in septa."""

    mean: float
    texture: float = 0.08
    septa: float = 0.0


@dataclass(frozen=True)
class Part:
    """What to paint: the inside of a body but for its outer `inset` mm, or its `shell` in mm."""

    body: Body
    tissue: Tissue
    inset: float = 0.0
    shell: float = 0.0


@dataclass(frozen=True)
class Gland:
    """The prostate: half axes in mm, departures from an ellipsoid, and what lies inside."""

    radii: Point
    power: float
    taper: float
    groove: float
    zone: Body = UNIT_BALL  # transition zone
    brightness: float = 1.0
    lesions: tuple[Part, ...] = ()  # in the peripheral zone
    nodules: tuple[Part, ...] = ()  # in the transition zone


@dataclass(frozen=True)
class Patient:
    """Everything that a seed decides about the anatomy."""

    gland: Gland
    parts: tuple[Part, ...]
    world: Point  # of the gland's centre, RAS mm
    isocentre: Point  # of the grid, in patient mm
    waves: Float64  # rows: amplitude in mm, wave vector per mm, phase
    coil: Body | None


AIR = Tissue(4.0, 0.0)
SKIN = Tissue(170.0)
FAT = Tissue(500.0, 0.08, 0.28)
MUSCLE = Tissue(88.0, 0.16, -0.25)
STREAKED_MUSCLE = Tissue(80.0, 0.20, -1.4)
CORTEX = Tissue(36.0)
MARROW = Tissue(250.0, 0.13)
HEAD_MARROW = Tissue(320.0, 0.10)
CARTILAGE = Tissue(120.0)
URINE = Tissue(1000.0, 0.01)
WALL = Tissue(150.0, 0.15)
VESICLE = Tissue(620.0, 0.22, 0.8)
PLEXUS = Tissue(380.0, 0.35, 0.4)
VESSEL = Tissue(66.0)
VEIN = Tissue(210.0, 0.12)
BULB = Tissue(640.0, 0.10)
URETHRA = Tissue(380.0)
CAPSULE = Tissue(110.0, 0.4)
RECTAL_CONTENTS = (AIR, AIR, Tissue(240.0, 0.5), Tissue(640.0, 0.12))


def draw_patient(seed: int, *, has_coil: bool) -> Patient:
    """Draw all of a patient from a seed; `has_coil` puts a balloon into the rectum."""
    rng = default_rng((seed, 0))
    gland = _draw_gland(rng)
    parts = tuple(_draw_surroundings(rng, gland.radii))
    directions = rng.normal(size=(9, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    waves = np.empty((9, 5))
    waves[:, 0] = rng.uniform(0.6, 1.3, 9)
    waves[:, 1:4] = directions * (2 * np.pi / rng.uniform(28, 70, (9, 1)))
    waves[:, 4] = rng.uniform(0, 2 * np.pi, 9)
    world = to_point(rng.uniform((-12, -25, -40), (12, 25, 40)))
    isocentre = to_point(rng.uniform((-4, -8, -3), (4, 4, 5)))
    coil = _draw_coil(rng, gland.radii) if has_coil else None
    return Patient(gland, parts, world, isocentre, waves, coil)


def _draw_gland(rng: Generator) -> Gland:
    volume = float(np.clip(np.exp(rng.normal(np.log(45), 0.5)), 17, 105))  # ml
    shape = np.array([1.22, 0.94, 1.0]) * rng.uniform(0.92, 1.08, 3)
    power, taper, groove = rng.uniform((2.1, 0.1, 0.02), (2.6, 0.3, 0.14)).tolist()
    unit = _unit_volume(Gland(to_point(shape), power, taper, groove))
    radii = shape * (volume * 1000 / unit) ** (1 / 3)
    share = float(np.clip(0.48 + 0.14 * np.log(volume / 45) + rng.normal(0, 0.05), 0.25, 0.75))
    inner = radii * (0.97, 0.95, 0.98) * share ** (1 / 3)
    centre = (0.0, float(0.7 * (radii[1] - inner[1])), float(0.6 * (radii[2] - inner[2])))
    zone = Body(centre, to_point(inner), power=2.3, taper=float(0.2 / radii[2]))
    brightness = float(rng.uniform(0.75, 1.1))
    lesions = tuple(_draw_lesions(rng, radii))
    nodules = tuple(_draw_nodules(rng, zone, brightness))
    return Gland(to_point(radii), power, taper, groove, zone, brightness, lesions, nodules)


def _unit_volume(gland: Gland) -> float:
    """Volume inside the gland's surface, by counting points."""
    axis = np.linspace(-1.7, 1.7, 48, dtype=np.float32)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    return float(np.mean(gland_distance(gland, (x, y, z)) < 0)) * 3.4**3


def _draw_lesions(rng: Generator, radii: Float64) -> Iterator[Part]:
    for _ in range(int(rng.integers(0, 3))):
        angle = np.deg2rad(rng.uniform(190, 350))
        place = 0.82 * radii * (np.cos(angle), np.sin(angle), rng.uniform(-0.5, 0.5))
        body = Body(to_point(place), to_point(rng.uniform(3, 7, 3)), yaw=float(rng.uniform(0, 180)))
        yield Part(body, Tissue(float(rng.uniform(150, 260)), 0.12))


def _draw_nodules(rng: Generator, zone: Body, brightness: float) -> Iterator[Part]:
    radii = np.array(zone.radii)
    for _ in range(int(np.prod(radii) / 600) + int(rng.integers(3, 8))):
        direction = rng.normal(size=3)
        direction *= rng.uniform(0.15, 0.85) / np.linalg.norm(direction)
        size = rng.uniform(0.13, 0.34) * np.mean(radii) * rng.uniform(0.75, 1.25, 3)
        place = to_point(zone.centre + direction * radii)
        body = Body(place, to_point(size), yaw=float(rng.uniform(0, 180)))
        yield Part(body, Tissue(105.0))
        mean = brightness * float(rng.choice((150.0, 200.0, 310.0, 430.0)))
        yield Part(body, Tissue(mean, 0.24, 0.15), inset=0.8)
    x, y, z = zone.radii
    stroma = Body((0.0, zone.centre[1] + 0.98 * y, 0.0), (0.5 * x, 0.25 * y, 0.8 * z))
    yield Part(stroma, CAPSULE)
    yield Part(Body((0.0, 0.0, -4.0), (2.6, 2.2, 0.9 * z), lean=0.2), URETHRA)


def _draw_coil(rng: Generator, radii: Point) -> Body:
    width, depth, push = rng.uniform((19, 16, 7), (24, 20, 11)).tolist()
    return Body((0.0, push - radii[1] - depth - 1.5, 0.0), (width, depth, 42.0), power=2.4)


def _draw_surroundings(rng: Generator, radii: Point) -> Iterator[Part]:
    a, b, c = radii
    thick, cleft, high, wide = rng.uniform((14, 18, 16, 30), (32, 30, 34, 44)).tolist()
    front, back = b + 46 + thick, -b - 58 - thick
    trunk = Body((0.0, (front + back) / 2, 0.0), (190.0, (front - back) / 2, COLUMN), power=2.8)
    yield Part(trunk, SKIN)
    yield Part(trunk, FAT, inset=1.8)
    yield Part(Body((0.0, back, -25.0), (1.8, cleft, 70.0)), AIR)
    levator = Body((0.0, -16.0, 0.0), (a + 7, b + 30, COLUMN), power=1.8, taper=0.008)
    yield Part(levator, Tissue(110.0, 0.2), shell=2.6)
    for side in (-1.0, 1.0):
        yield from _draw_side(rng, side, (max(a + 15, 40.0), b, c))
    yield Part(Body((0.0, b + 21, -6.0), (3.5, 14.0, 22.0), lean=0.3), CARTILAGE)
    coccyx = Body((0.0, -b - 50, 18.0), (11.0, 6.0, 28.0), lean=-0.4)
    yield Part(coccyx, CORTEX)
    yield Part(coccyx, MARROW, inset=1.8)
    bladder = Body((0.0, 6.0, c + 0.8 * high), (wide, 26.0, high), power=2.3)
    yield Part(bladder, WALL)
    yield Part(bladder, URINE, inset=float(rng.uniform(2.5, 5)))
    size, off, thick = rng.uniform((9, -4, 2.8), (18, 4, 4.2)).tolist()
    rectum = Body((off, -b - size - 3.5, 0.0), (1.1 * size, size, COLUMN), taper=0.006, lean=-0.2)
    yield Part(rectum, WALL)
    yield Part(rectum, RECTAL_CONTENTS[int(rng.integers(4))], inset=thick)
    sphincter = Body((0.0, 1.0, -c - 8), (8.0, 8.0, 16.0))
    yield Part(sphincter, WALL)
    yield Part(sphincter, URETHRA, inset=4.0)
    yield Part(Body((0.0, 4.0, -c - 24), (14.0, 11.0, 9.0)), BULB)


def _draw_side(rng: Generator, side: float, extent: Point) -> Iterator[Part]:
    """Draw what is paired: muscles, bones, vessels, seminal vesicles of one side."""
    x, b, c = extent
    t = COLUMN
    # fmt: off
    rows: tuple[tuple[Point, Point, float, float, tuple[tuple[Tissue, float], ...]], ...] = (
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
        body = Body(place, to_point(grown), turn, power)
        for tissue, inset in layers:
            yield Part(body, tissue, inset=float(inset))


def gland_distance(gland: Gland, points: Points) -> Float32:
    """Distance in mm to the capsule along the ray from the centre; negative inside."""
    x, y, z = points
    a, b, c = gland.radii
    w = z / c
    width = np.clip(1 + gland.taper * w, 0.5, 1.3)
    u, v = x / (a * width), y / (b * width)
    behind = np.clip(-v, 0, 1)
    v = v * (1 + 0.16 * behind) - gland.groove * behind * np.exp(-9 * u * u)
    return ray_distance(x * x + y * y + z * z, (u, v, w), gland.power)


def undo_coil(coil: Body, depth: float, points: Points) -> Points:
    """Where each point lay before the balloon pushed the gland, of half `depth`, forwards."""
    x, y, z = points
    push = coil.centre[1] + coil.radii[1] + 1.5 + depth
    profile = np.clip((depth + 22 - y) / (2 * depth + 22), 0, 1)
    near = np.exp(-((x / 26) ** 2 + (z / 40) ** 2) / 2)
    squeeze = near * profile * profile * (3 - 2 * profile)
    return x * (1 - 0.22 * squeeze), y - push * squeeze, z
