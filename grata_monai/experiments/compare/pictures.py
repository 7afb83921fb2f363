"""Draw the best and the worst case of a comparison: reference, source network, method."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from grata_monai.adapt.episode import run_episode
from grata_monai.core.errors import GrataError
from grata_monai.core.files import atomic_path
from grata_monai.experiments.harness.bench import Bench
from grata_monai.experiments.harness.run import Row, assign, fit_system
from grata_monai.methods.registry import System
from grata_monai.write.pictures.colours import FINAL_COLOUR, SOURCE_COLOUR, to_hex
from grata_monai.write.pictures.contours import trace_rings
from grata_monai.write.pictures.figure import DASHES
from grata_monai.write.pictures.planes import Planes, cut_into_planes

__all__ = ["draw_extremes", "find_extremes"]

SLICES = (0.25, 0.5, 0.75)  # of the reference's extent
MARGIN_MM = 20.0
VOLUME = 4  # axes, with the channel
REFERENCE = ("#FFFFFF", 2.4, "solid")


def find_extremes(
    rows: Sequence[Row], methods: Mapping[str, System]
) -> dict[str, tuple[Row, float]]:
    """Find the best and the worst case of the method that gains most.

    Args:
        rows: With rows of ``source``.
        methods: Name to system; one that learns from case to case is passed over, as its masks
            cannot be made again alone.

    Returns:
        ``best`` and ``worst``, each a row and its gain in Dice; empty with fewer than two cases.
    """
    source = {row.case: row.dice for row in rows if row.method == "source" and not row.refusal}
    gains: dict[str, list[tuple[float, Row]]] = {}
    for row in rows:
        system = methods.get(row.method)
        is_told = row.method != "source" and not row.refusal and row.case in source
        if is_told and system is not None and not system.method.is_online:
            gains.setdefault(row.method, []).append((row.dice - source[row.case], row))
    gains = {name: found for name, found in gains.items() if len(found) > 1}
    if not gains:
        return {}
    found = max(gains.values(), key=lambda pairs: float(np.mean([gain for gain, _ in pairs])))
    ordered = sorted(found, key=lambda pair: (pair[0], pair[1].case))
    ends = {"best": ordered[-1], "worst": ordered[0]}
    return {kind: (row, gain) for kind, (gain, row) in ends.items()}


def draw_extremes(
    rows: Sequence[Row],
    cases: Sequence[Mapping[str, str]],
    methods: Mapping[str, System],
    bench: Bench,
    folder: Path,
    *,
    seed: int = 0,
) -> dict[str, str]:
    """Predict the best and the worst case again, and draw them.

    Args:
        rows: Of the comparison.
        cases: Of `list_cases`.
        methods: That ran.
        bench: On which they ran.
        folder: Where ``best.png`` and ``worst.png`` go.
        seed: Of the run.

    Returns:
        File to caption, of those that could be drawn.

    Raises:
        OutputError: If a picture cannot be written.
    """
    captions = {}
    named = {case["case"]: case for case in cases}
    for kind, (row, gain) in find_extremes(rows, methods).items():
        case = named[row.case]
        prepared = bench.prepare(case, seed=seed)
        system = fit_system(methods[row.method], bench)
        try:
            result = run_episode(bench.network, assign(prepared.episode, system))
        except GrataError:  # it has a row, so this is another machine's trouble
            continue
        final, label = bench.finish(result.logits, prepared)
        source, _ = bench.finish(result.source.logits, prepared)
        if label.ndim != VOLUME:
            continue
        files = {key: path for key, path in case.items() if key != "label"}
        image = bench.preprocessing.transforms[0](files)["image"]
        affine = np.asarray(label.affine.cpu(), dtype=np.float64)
        planes = [
            cut_into_planes(np.asarray(torch.as_tensor(one).cpu())[0], affine)
            for one in (image, label, source, final)
        ]
        with atomic_path(folder / f"{kind}.png") as path:
            _draw(planes, row.method, path)
        told = f"{kind.capitalize()} case of {row.method}: {row.case}, {gain:+.3f} Dice"
        captions[f"{kind}.png"] = told
    return captions


def _draw(planes: Sequence[Planes], method: str, path: Path) -> None:
    """Draw three slices of the image with the outlines of reference, source and final mask."""
    image, reference, *masks = planes
    frames = np.flatnonzero((reference.values > 0).any(axis=(1, 2)))
    chosen = [int(frames[int(share * (len(frames) - 1))]) for share in SLICES if len(frames)] or [0]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, len(chosen), squeeze=False)[0]
    styles: list[tuple[str, float, Any]] = [
        REFERENCE,
        (to_hex(SOURCE_COLOUR), 1.6, DASHES),
        (to_hex(FINAL_COLOUR), 1.6, "solid"),
    ]
    rows, columns = _crop([plane.values > 0 for plane in (reference, *masks)], image.spacing[1:])
    for axes, frame in zip(panels, chosen, strict=True):
        shown = image.values[frame][rows, columns]
        aspect = image.spacing[1] / image.spacing[2]
        low, high = np.nanpercentile(shown, (1, 99.5))
        axes.imshow(shown, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect=aspect)
        for plane, (colour, width, line) in zip((reference, *masks), styles, strict=True):
            _outline(axes, plane.values[frame][rows, columns], colour, width, line)
        axes.set_title(f"slice {frame + 1}", fontsize=9)
        axes.set_axis_off()
    handles = [Line2D([], [], color=c, linewidth=w, linestyle=s) for c, w, s in styles]
    names = ["reference", "source network", method]
    legend = figure.legend(
        handles, names, loc="outside lower center", ncols=len(names), facecolor="#222222"
    )
    for text in legend.get_texts():
        text.set_color("white")
    figure.savefig(path, dpi=110, format="png")


def _outline(axes: Axes, plane: NDArray[Any], colour: str, width: float, line: Any) -> None:
    rings = [
        np.vstack([ring, ring[:1]])[:, ::-1]
        for label in np.unique(plane[plane > 0])
        for ring in trace_rings(plane == label)
    ]
    axes.add_collection(LineCollection(rings, colors=colour, linewidths=width, linestyles=line))


def _crop(masks: Sequence[NDArray[np.bool_]], spacing: Sequence[float]) -> tuple[slice, slice]:
    """Rows and columns around all masks, with a margin; everything where nothing is marked."""
    marked = np.any(masks, axis=(0, 1))
    return _span(marked.any(axis=1), spacing[0]), _span(marked.any(axis=0), spacing[1])


def _span(marked: NDArray[np.bool_], spacing: float) -> slice:
    found, margin = np.flatnonzero(marked), round(MARGIN_MM / spacing)
    if not len(found):
        return slice(None)
    return slice(max(int(found[0]) - margin, 0), int(found[-1]) + margin + 1)
