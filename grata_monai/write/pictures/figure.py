"""Draw the contact sheet of one case: slices with the contours of source and final mask.

Slices are drawn as they are stored, with the patient's directions as letters at the edges, so that
a contour is where the PACS shows it. Nothing on the sheet identifies the patient.
"""

import textwrap
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from grata_monai.write import RESEARCH_ONLY
from grata_monai.write.pictures.colours import FINAL_COLOUR, SOURCE_COLOUR, Colour, to_hex
from grata_monai.write.pictures.contours import trace_rings
from grata_monai.write.pictures.sheet import Sheet, choose_bar

__all__ = ["PAPER", "SCREEN", "Theme", "draw_sheet", "render_sheet"]

WARNING_COLOUR = "#F0E442"
DASHES = (0.0, (3.0, 2.5))  # on and off, in line widths
DPI = 400 / 3
FONT = "DejaVu Sans"  # comes with matplotlib, on every machine the same
TOP, BOTTOM, MARGIN, GAP = 1.05, 1.2, 0.15, 0.06  # inches
ROW, NAMES_IN_A_ROW, MOST_NAMES, LONGEST_NAME = 0.24, 6, 12, 24  # of several labels' legend
CROP_ASPECT = 1.3  # twelve such tiles fill a sheet


@dataclass(frozen=True)
class Theme:
    """Colours and size of a sheet.

    Attributes:
        ground: Of the background.
        ink: Of text.
        faint: Of axes.
        size: Width and height in inches.
    """

    ground: str
    ink: str
    faint: str
    size: tuple[float, float]


SCREEN = Theme(ground="#000000", ink="#F5F5F5", faint="#777777", size=(12.0, 9.0))
PAPER = Theme(ground="#FFFFFF", ink="#111111", faint="#999999", size=(11.69, 8.27))


def render_sheet(sheet: Sheet, *, theme: Theme = SCREEN) -> NDArray[np.uint8]:
    """Draw a contact sheet as pixels.

    Args:
        sheet: What to draw.
        theme: How.

    Returns:
        Red, green, blue (rows, columns, 3); 1200 × 1600 for `SCREEN`. Equal sheets, equal pixels.
    """
    canvas = FigureCanvasAgg(draw_sheet(sheet, theme=theme))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of glyphs that the font lacks
        canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba(), dtype=np.uint8)  # type: ignore[no-untyped-call]
    return np.ascontiguousarray(pixels[..., :3])


def draw_sheet(sheet: Sheet, *, theme: Theme = SCREEN) -> Figure:
    """Draw a contact sheet.

    An overview with the frame of the crop, then crops of slices evenly over the masks' extent, the
    source network's outline dashed, the final one solid, the most changed slice named; below, the
    area of both in every slice.

    Args:
        sheet: What to draw.
        theme: How.

    Returns:
        A figure that belongs to no window and no global state.
    """
    figure = Figure(figsize=theme.size, dpi=DPI, facecolor=theme.ground)
    _draw_header(figure, sheet, theme)
    _draw_names(figure, sheet, theme)
    frames, crop = sheet.choose_frames(), sheet.crop(aspect=CROP_ASPECT)
    whole = slice(0, sheet.mask.shape[1]), slice(0, sheet.mask.shape[2])
    middle = frames[len(frames) // 2] if sheet.most_changed is None else sheet.most_changed
    tiles = [(middle, whole)] if crop != whole else []
    tiles += [(frame, crop) for frame in frames]
    boxes = _arrange(sheet, [part for _, part in tiles], theme)
    for box, (frame, part) in zip(boxes, tiles, strict=True):
        axes = figure.add_axes(box)
        low, high = sheet.grey_window(frames, part)
        axes.imshow(
            sheet.voxels[frame],
            cmap="gray",
            vmin=low,
            vmax=high,
            interpolation="bilinear",
            aspect=sheet.in_plane_spacing[0] / sheet.in_plane_spacing[1],
        )
        _frame_tile(axes, part)
        _draw_bar(axes, sheet, part)
        _label_tile(axes, sheet, frame, is_overview=part != crop)
        _draw_contours(axes, sheet, frame, thickness=1.0 if part != crop else 2.0)
        if part != crop:
            _draw_box(axes, crop, "white")
        elif frame == sheet.most_changed:
            _draw_box(axes, part, WARNING_COLOUR)
    _draw_profile(figure, sheet, frames, theme)
    return figure


def _draw_header(figure: Figure, sheet: Sheet, theme: Theme) -> None:
    width, height = theme.size
    lines = textwrap.wrap(sheet.verdict, 84, max_lines=2, placeholder=" …") or [""]
    size = 15 if len(lines) == 1 else 11.5
    text: dict[str, Any] = {"family": FONT, "color": theme.ink, "parse_math": False}
    left, top = MARGIN / width, 1 - 0.12 / height
    figure.text(left, top, "\n".join(lines), size=size, weight="bold", va="top", **text)
    figure.text(
        1 - left,
        top,
        RESEARCH_ONLY,
        family=FONT,
        size=13,
        weight="bold",
        color="#000000",
        ha="right",
        va="top",
        bbox={"facecolor": WARNING_COLOUR, "edgecolor": "none", "pad": 4},
    )
    facts = textwrap.wrap("   ·   ".join(sheet.facts()), 105, max_lines=2, placeholder=" …")
    size = 12.5 if len(facts) == 1 else 10
    figure.text(left, 1 - 0.57 / height, "\n".join(facts), size=size, va="top", **text)
    heading = textwrap.shorten(sheet.heading, 150, placeholder=" …")
    figure.text(left, 1 - 0.9 / height, heading, size=9.5, va="top", **text)
    figure.legend(
        handles=_legend(sheet, theme),
        loc="upper right",
        bbox_to_anchor=(1 - left, 1 - 0.5 / height),
        borderaxespad=0,
        frameon=False,
        labelcolor=theme.ink,
        handlelength=3,
        labelspacing=0.25,
        prop={"family": FONT, "size": 11.5},
    )


def _legend(sheet: Sheet, theme: Theme) -> list[Line2D]:
    before, after = _colours_of_masks(sheet, theme)
    final = Line2D([], [], color=after, linewidth=2.6, label="final mask")
    if sheet.source is None:
        return [final]
    dashed = Line2D([], [], color=before, linewidth=2.2, linestyle=DASHES, label="source network")
    return [dashed, final]


def _colours_of_masks(sheet: Sheet, theme: Theme) -> tuple[str, str]:
    """Of the source's mask and the final one; with several labels, colour means the label."""
    return (
        (theme.ink, theme.ink) if sheet.colours else (to_hex(SOURCE_COLOUR), to_hex(FINAL_COLOUR))
    )


def _draw_names(figure: Figure, sheet: Sheet, theme: Theme) -> None:
    """Say which colour belongs to which of several labels."""
    shown = list(sheet.present().items()) if sheet.colours else []
    if not shown:
        return
    handles = [
        Line2D([], [], color=to_hex(sheet.colours[number]), linewidth=2.6, label=_shorten(name))
        for number, name in shown[:MOST_NAMES]
    ]
    if len(shown) > MOST_NAMES:
        rest = f"and {len(shown) - MOST_NAMES + 1} more"
        handles[-1] = Line2D([], [], linestyle="none", label=rest)
    width, height = theme.size
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(MARGIN / width, 1 - TOP / height),
        ncols=NAMES_IN_A_ROW,
        borderaxespad=0,
        borderpad=0,
        frameon=False,
        labelcolor=theme.ink,
        handlelength=1.5,
        prop={"family": FONT, "size": 10.5},
    )


def _top(sheet: Sheet) -> float:
    """Inches above the tiles."""
    names = min(len(sheet.present()), MOST_NAMES) if sheet.colours else 0
    return TOP + ROW * -(-names // NAMES_IN_A_ROW)


def _shorten(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _arrange(
    sheet: Sheet, parts: Sequence[tuple[slice, slice]], theme: Theme
) -> list[tuple[float, float, float, float]]:
    """Find the grid with the largest tiles; boxes in shares of the figure."""
    width, height = theme.size
    top = _top(sheet)
    room = width - 2 * MARGIN, height - top - BOTTOM
    rows, columns = parts[-1]
    tall = (rows.stop - rows.start) * sheet.in_plane_spacing[0]
    wide = (columns.stop - columns.start) * sheet.in_plane_spacing[1]
    count = len(parts)

    def tile_scale(across: int) -> float:
        down = -(-count // across)
        return float(min((room[0] / across - GAP) / wide, (room[1] / down - GAP) / tall))

    across = max(range(1, count + 1), key=tile_scale)
    down = -(-count // across)
    cell = tile_scale(across) * wide + GAP, tile_scale(across) * tall + GAP
    start = (width - across * cell[0]) / 2, height - top - (room[1] - down * cell[1]) / 2
    return [
        (
            (start[0] + (k % across) * cell[0]) / width,
            (start[1] - (k // across + 1) * cell[1]) / height,
            (cell[0] - GAP) / width,
            (cell[1] - GAP) / height,
        )
        for k in range(count)
    ]


def _frame_tile(axes: Axes, part: tuple[slice, slice]) -> None:
    rows, columns = part
    axes.set_xlim(columns.start - 0.5, columns.stop - 0.5)
    axes.set_ylim(rows.stop - 0.5, rows.start - 0.5)
    axes.set_axis_off()


def _label_tile(axes: Axes, sheet: Sheet, frame: int, *, is_overview: bool) -> None:
    outlined: dict[str, Any] = {"path_effects": [withStroke(linewidth=2.5, foreground="black")]}
    text: dict[str, Any] = {
        "transform": axes.transAxes,
        "family": FONT,
        "color": "white",
        **outlined,
    }
    number = f"image {sheet.numbers[frame]}"
    axes.text(0.02, 0.98, number, size=9.5, va="top", weight="bold", **text)
    if is_overview:
        axes.text(0.02, 0.02, "overview", size=8, va="bottom", **text)
    elif frame == sheet.most_changed:
        axes.text(0.02, 0.02, "largest change", size=9.5, va="bottom", **text)
    left, right, top, bottom = sheet.letters()
    for x, y, letter, ha, va in (
        (0.015, 0.5, left, "left", "center"),
        (0.985, 0.5, right, "right", "center"),
        (0.5, 0.985, top, "center", "top"),
        (0.5, 0.015, bottom, "center", "bottom"),
    ):
        axes.text(x, y, letter, size=9, ha=ha, va=va, **text)


def _draw_bar(axes: Axes, sheet: Sheet, part: tuple[slice, slice]) -> None:
    """Draw a scale bar into the lower right corner."""
    rows, columns = part
    pixel = sheet.in_plane_spacing[1]
    length = choose_bar((columns.stop - columns.start) * pixel)
    end = columns.stop - 0.5 - 0.03 * (columns.stop - columns.start)
    low = rows.stop - 0.5 - 0.03 * (rows.stop - rows.start)
    outlined: dict[str, Any] = {"path_effects": [withStroke(linewidth=4, foreground="black")]}
    axes.plot([end - length / pixel, end], [low, low], color="white", linewidth=2, **outlined)
    axes.text(
        end, low, f"{length} mm", size=7.5, ha="right", va="bottom", family=FONT, color="white",
        path_effects=[withStroke(linewidth=2.5, foreground="black")],
    )  # fmt: skip


def _draw_contours(axes: Axes, sheet: Sheet, frame: int, *, thickness: float) -> None:
    """Draw the final outline, and the source's dashed over it: where both agree, both show."""
    planes: list[tuple[NDArray[np.uint8], Colour, Any]]
    planes = [(sheet.mask[frame], FINAL_COLOUR, "solid")]
    if sheet.source is not None:
        planes.append((sheet.source[frame], SOURCE_COLOUR, DASHES))
    for plane, colour, style in planes:
        rings, colours = _trace(plane, sheet.colours, colour)
        lines = LineCollection(rings, colors=colours, linewidths=thickness, linestyles=style)
        axes.add_collection(lines, autolim=False)


def _trace(
    plane: NDArray[np.uint8], colours: Mapping[int, Colour], only: Colour
) -> tuple[list[NDArray[np.float64]], list[str]]:
    """Trace every label; give its rings, closed, column and row, and the colour of each."""
    traced = [
        (np.vstack([ring, ring[:1]])[:, ::-1], to_hex(colours.get(int(label), only)))
        for label in np.unique(plane[plane > 0])
        for ring in trace_rings(plane == label)
    ]
    return [ring for ring, _ in traced], [colour for _, colour in traced]


def _draw_box(axes: Axes, part: tuple[slice, slice], colour: str) -> None:
    rows, columns = part
    axes.add_patch(
        Rectangle(
            (columns.start - 0.5, rows.start - 0.5),
            columns.stop - columns.start,
            rows.stop - rows.start,
            fill=False,
            edgecolor=colour,
            linewidth=1.2,
            clip_on=False,
        )
    )


def _draw_profile(figure: Figure, sheet: Sheet, frames: Sequence[int], theme: Theme) -> None:
    """Draw the area of both masks in every slice: where along the stack they differ."""
    width, height = theme.size
    left, low = 0.75, 0.5
    axes = figure.add_axes(
        (
            left / width,
            low / height,
            1 - (left + 2 * MARGIN) / width,
            (BOTTOM - low - 0.12) / height,
        ),
        facecolor="none",
    )
    index = np.arange(len(sheet.numbers))
    before, after = _colours_of_masks(sheet, theme)
    axes.step(index, sheet.areas(sheet.mask), where="mid", color=after, linewidth=2.2)
    if sheet.source is not None:
        areas = sheet.areas(sheet.source)
        style = DASHES
        axes.step(index, areas, where="mid", color=before, linewidth=1.8, linestyle=style)
    axes.set_xlim(-0.5, len(index) - 0.5)
    axes.set_ylim(0, 1.1 * max(0.5, *(float(sheet.areas(mask).max()) for mask in sheet.masks)))
    axes.set_xticks(frames, [str(sheet.numbers[frame]) for frame in frames])
    axes.tick_params(colors=theme.ink, labelsize=8.5, length=3, pad=2)
    axes.locator_params(axis="y", nbins=3)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(theme.faint)
    text: dict[str, Any] = {"family": FONT, "color": theme.ink, "size": 9}
    axes.set_ylabel("area, cm²", **text)
    axes.set_xlabel("image; the numbers of those shown", labelpad=1, **text)
