"""Points and smooth bodies in millimetres, in patient coordinates.

Coordinates are RAS in mm with their origin at the centre of the gland.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "COLUMN",
    "Body",
    "Float32",
    "Float64",
    "Point",
    "Points",
    "UInt8",
    "body_distance",
    "ray_distance",
    "to_point",
]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
UInt8 = NDArray[np.uint8]
Points = tuple[Float32, Float32, Float32]  # x, y, z in patient mm
Point = tuple[float, float, float]

COLUMN = float("inf")  # half height of what runs through the whole pelvis


@dataclass(frozen=True)
class Body:
    """A superellipsoid in mm; `taper` per mm and `lean` (mm forwards per mm) go with height."""

    centre: Point
    radii: Point
    yaw: float = 0.0  # degrees about the long axis of the trunk
    power: float = 2.0
    taper: float = 0.0
    lean: float = 0.0


def to_point(values: Sequence[float] | Float64) -> Point:
    """Make a plain tuple of three numbers, whatever array holds them."""
    return (float(values[0]), float(values[1]), float(values[2]))


def body_distance(body: Body, points: Points) -> Float32:
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
        return ray_distance(squared, (x / a, y / b), body.power)
    return ray_distance(squared + z * z, (x / a, y / b, z / c), body.power)


def ray_distance(squared: Float32, terms: tuple[Float32, ...], power: float) -> Float32:
    """Distance in mm along the ray, from its squared length and its scaled coordinates."""
    if power == 2.0:
        level = np.sqrt(sum(term * term for term in terms))
    else:
        level = sum(np.abs(term) ** power for term in terms) ** (1 / power)
    return np.asarray(np.sqrt(squared) * (1 - 1 / np.maximum(level, 1e-3)))
