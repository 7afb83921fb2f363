"""Cut a case into tiles: a slice as a small picture, and outlines over it as vector paths."""

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from grata_monai.report.case import ReportedCase
from grata_monai.write.pictures.colours import FINAL_COLOUR, SOURCE_COLOUR
from grata_monai.write.pictures.contours import trace_rings
from grata_monai.write.pictures.sheet import Sheet, choose_bar

__all__ = ["Slices", "Tile", "choose_frames", "cut_doubt", "cut_tiles", "draw_thumbnail"]

TILES = {"axial": 6, "coronal": 3, "sagittal": 3}
DOUBTFUL = 6
LONGEST_SIDE = 320  # pixels of a tile's picture
ASPECT = 1.2
THUMBNAIL = (128, 96)


@dataclass(frozen=True)
class Tile:
    """One slice, cropped to what matters.

    Attributes:
        plane: ``axial``, ``coronal`` or ``sagittal``.
        number: Of the slice, from 1.
        of: Number of slices in this plane.
        size: Width and height, mm.
        picture: PNG as base64.
        kept: Outline of every label of the kept mask, by its number, as an SVG path in mm from the
            upper left corner.
        source: Likewise of the source network's.
        views: Likewise of every magnification.
        doubt: Likewise of where some magnifications mark foreground and others do not.
        letters: Where left, right, top and bottom point to in the patient.
        differs: Area that only one of both masks holds, cm².
        doubtful: Area where some magnifications mark foreground and others do not, cm².
        bar: Length of the scale bar, mm.
    """

    plane: str
    number: int
    of: int
    size: tuple[float, float]
    picture: str
    kept: dict[int, str]
    source: dict[int, str]
    views: tuple[str, ...]
    doubt: str
    letters: tuple[str, str, str, str]
    differs: float
    doubtful: float
    bar: int


@dataclass(frozen=True)
class Slices:
    """Areas in every slice of a plane, cm².

    Attributes:
        plane: ``axial``, ``coronal`` or ``sagittal``.
        numbers: Of the slices, from 1.
        kept: Of the kept mask.
        source: Of the source network's; empty if that is not known.
        doubt: Where some magnifications mark foreground and others do not.
    """

    plane: str
    numbers: tuple[int, ...]
    kept: tuple[float, ...]
    source: tuple[float, ...]
    doubt: tuple[float, ...]

    @property
    def unsure(self) -> list[tuple[int, int, float]]:
        """Place, number and area of every slice where the magnifications disagree."""
        triples = zip(range(len(self.numbers)), self.numbers, self.doubt, strict=True)
        return [triple for triple in triples if triple[2]]

    @property
    def largest(self) -> float:
        """The largest of all areas, cm²; above 0."""
        return max(*self.kept, *self.source, *self.doubt, 1e-9)


def choose_frames(sheet: Sheet, count: int) -> list[int]:
    """Choose the slices that differ most, apart from each other; then evenly through the organ.

    Args:
        sheet: The slices of a plane.
        count: How many at most.

    Returns:
        Their indices, in order.
    """
    even = sheet.choose_frames()
    if sheet.source is None:
        return _thin(even, count)
    changed = (sheet.mask != sheet.source).sum(axis=(1, 2))
    gap = max(1, (even[-1] - even[0]) // (2 * count))
    chosen: list[int] = []
    for frame in np.argsort(-changed, kind="stable").tolist():
        if len(chosen) == count or not changed[frame]:
            break
        if all(abs(frame - other) >= gap for other in chosen):
            chosen.append(frame)
    others = [frame for frame in even if frame not in chosen]
    return sorted(chosen + _thin(others, count - len(chosen)))


def cut_tiles(case: ReportedCase) -> dict[str, list[Tile]]:
    """Cut the tiles of every plane."""
    return {
        plane: list(_cut_plane(case, plane, choose_frames(case.sheets[plane], count)))
        for plane, count in TILES.items()
    }


def cut_doubt(case: ReportedCase) -> tuple[Slices, list[Tile]] | None:
    """Cut where the magnifications disagree, slice by slice in the plane of acquisition.

    Args:
        case: The case.

    Returns:
        Areas of all slices, and tiles of those where they disagree most; None without two
        magnifications.
    """
    plane = case.best_plane
    sheet, doubt = case.sheets[plane], case.doubt(plane)
    if doubt is None:
        return None
    areas = sheet.areas(doubt.astype(np.uint8))
    worst = np.argsort(-areas, kind="stable")[:DOUBTFUL]
    slices = Slices(
        plane=plane,
        numbers=sheet.numbers,
        kept=tuple(sheet.areas(sheet.mask).tolist()),
        source=() if sheet.source is None else tuple(sheet.areas(sheet.source).tolist()),
        doubt=tuple(areas.tolist()),
    )
    frames = sorted(int(frame) for frame in worst if areas[frame])
    return slices, list(_cut_plane(case, plane, frames))


def draw_thumbnail(case: ReportedCase) -> bytes:
    """Draw the slice that differs most with both outlines, as a small PNG."""
    sheet = case.sheets[case.best_plane]
    frames = choose_frames(sheet, 1)
    frame = frames[len(frames) // 2]
    part = sheet.crop(aspect=THUMBNAIL[0] / THUMBNAIL[1])
    picture = Image.fromarray(_grey(sheet, frame, part, sheet.grey_window([frame], part)))
    picture.thumbnail(THUMBNAIL)
    pixels = np.repeat(np.asarray(picture)[..., None], 3, axis=2)
    for mask, colour in ((sheet.source, SOURCE_COLOUR), (sheet.mask, FINAL_COLOUR)):
        if mask is not None:
            whole = Image.fromarray(mask[frame][part])
            small = np.asarray(whole.resize(picture.size, Image.Resampling.NEAREST))
            edge = _edge(small)
            for label in np.unique(small[edge]):
                pixels[edge & (small == label)] = sheet.colours.get(int(label), colour)
    picture = Image.fromarray(pixels)
    return _to_png(picture)


def _cut_plane(case: ReportedCase, plane: str, frames: list[int]) -> Iterator[Tile]:
    sheet, marks, doubt = case.sheets[plane], case.marks(plane), case.doubt(plane)
    part = sheet.crop(aspect=ASPECT)
    window = sheet.grey_window(frames, part)
    spacing = sheet.in_plane_spacing
    shape = [s.stop - s.start for s in part]
    for frame in frames:
        picture = Image.fromarray(_grey(sheet, frame, part, window))
        picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        mask = sheet.mask[frame][part]
        source = None if sheet.source is None else sheet.source[frame][part]
        here = None if marks is None else marks[frame][part]
        windows = range(min(8, len(case.record.focus.windows)))
        views = () if here is None else tuple(_path((here >> k) & 1 > 0, spacing) for k in windows)
        changed = 0 if source is None else int((mask != source).sum())
        unsure = np.zeros(mask.shape, np.bool_) if doubt is None else doubt[frame][part]
        pixel = spacing[0] * spacing[1] / 100  # cm²
        yield Tile(
            plane=plane,
            number=sheet.numbers[frame],
            of=len(sheet.numbers),
            size=(round(shape[1] * spacing[1], 2), round(shape[0] * spacing[0], 2)),
            picture=base64.b64encode(_to_png(picture)).decode(),
            kept=_paths(mask, spacing),
            source={} if source is None else _paths(source, spacing),
            views=views,
            doubt=_path(unsure, spacing),
            letters=sheet.letters(),
            differs=changed * pixel,
            doubtful=int(unsure.sum()) * pixel,
            bar=choose_bar(shape[1] * spacing[1]),
        )


def _grey(
    sheet: Sheet, frame: int, part: tuple[slice, slice], window: tuple[float, float]
) -> NDArray[np.uint8]:
    low, high = window
    values = np.nan_to_num(np.asarray(sheet.voxels[frame][part], dtype=np.float32), nan=low)
    return np.asarray(255 * ((values - low) / (high - low)).clip(0, 1), dtype=np.uint8)


def _paths(plane: NDArray[np.uint8], spacing: tuple[float, float]) -> dict[int, str]:
    """Outline every label."""
    return {int(label): _path(plane == label, spacing) for label in np.unique(plane[plane > 0])}


def _path(plane: NDArray[np.bool_], spacing: tuple[float, float]) -> str:
    """Outline what is marked as an SVG path in mm."""
    pieces = []
    for ring in trace_rings(plane):
        points = (_corners(np.vstack([ring, ring[:1]]))[:-1] + 0.5) * spacing
        pieces.append("M" + "L".join(f"{x:.1f} {y:.1f}" for y, x in points) + "Z")
    return "".join(pieces)


def _corners(line: NDArray[Any]) -> NDArray[Any]:
    """Leave out points inside straight runs of equal steps: no outline needs them."""
    steps = np.diff(line, axis=0)
    turns = (steps[1:] != steps[:-1]).any(axis=1)
    return np.asarray(line[np.concatenate([[True], turns, [True]])])


def _edge(plane: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels of a label that touch another one."""
    padded = np.pad(plane, 1, mode="edge")
    around = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return np.asarray((plane > 0) & np.any([plane != other for other in around], axis=0))


def _to_png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _thin(frames: list[int], count: int) -> list[int]:
    if len(frames) <= count:
        return frames
    return [frames[round(i)] for i in np.linspace(0, len(frames) - 1, count)] if count else []
