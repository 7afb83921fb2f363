"""After every case: draw its preview, measure its segments, and note both."""

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events

from grata_monai.bundle.open import Bundle
from grata_monai.core.failures import CaseFailure, report_failure
from grata_monai.core.files import atomic_path, ensure_writable
from grata_monai.read.outputs import RECORD, RECORD_ENDING, read_json, read_written
from grata_monai.record import Record
from grata_monai.write.pictures.planes import cut_into_planes
from grata_monai.write.pictures.sizes import measure_segment

__all__ = ["NOTE", "Extras", "draw_preview", "name_labels", "write_statistics"]

NOTE = ".extras/{case}.json"
"""What is written last of a case: ``made_from``, as its record says it, and ``sizes``."""

COLUMNS = ("case", "segment", "volume_ml", "long_axis_mm", "depth_mm")


class Extras:
    """A handler of the bundle's evaluator.

    Args:
        bundle: Whose labels have names, and whose first transform reads an image.
        folder: Of the outputs.
        images: Of every case, by its name: the file, or the volume's name.
        preview: Whether to draw ``<case>_preview.png``, for cases that are image files.
    """

    def __init__(
        self, bundle: Bundle, folder: Path, *, images: Mapping[str, Path], preview: bool
    ) -> None:
        self.bundle, self.folder, self.images, self.preview = bundle, folder, images, preview

    def attach(self, engine: Engine) -> None:
        """Listen to an engine."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.conclude)

    def conclude(self, engine: Engine) -> None:
        """Conclude the cases of an iteration; one that cannot be drawn counts as failed."""
        state: Any = engine.state
        for batch, output in zip(state.batch, state.output, strict=True):
            item = {**batch, **output}
            case = str(item["case"])
            try:
                self._conclude(case, item)
            except Exception as error:  # must not stop the other cases
                report_failure(engine, CaseFailure.explain(case, error))

    def _conclude(self, case: str, item: Mapping[str, Any]) -> None:
        names = name_labels(self.bundle)
        if self.preview:
            picture = self.folder / f"{case}_preview.png"
            draw_preview(item, self.bundle, self.images[case], picture, names=names)
        note = {"made_from": item["made_from"], "sizes": _measure(item["pred"], names)}
        path = self.folder / NOTE.replace("{case}", case)
        ensure_writable(path.parent)
        with atomic_path(path) as file:
            file.write_text(json.dumps(note, sort_keys=True) + "\n", encoding="utf-8")


def name_labels(bundle: Bundle) -> dict[int, str]:
    """Names of the labels by their numbers, as the bundle's metadata say; without background."""
    outputs = bundle.metadata.get("network_data_format", {}).get("outputs", {})
    channels = outputs.get("pred", {}).get("channel_def", {})
    return {int(number): str(name) for number, name in channels.items() if int(number)}


def draw_preview(
    item: Mapping[Any, Any], bundle: Bundle, image: Path, target: Path, *, names: dict[int, str]
) -> None:
    """Draw an image with the contours of the source network's mask and the final one.

    Args:
        item: What postprocessing gave, with ``pred``, ``source`` and ``grata``.
        bundle: Whose first transform reads an image.
        image: The file.
        target: The picture, a ``.png``.
        names: Of the labels.

    Raises:
        OutputError: If it cannot be written.
    """
    from matplotlib.image import imsave  # noqa: PLC0415  # matplotlib is an extra

    from grata_monai.write.pictures.figure import render_sheet  # noqa: PLC0415
    from grata_monai.write.pictures.sheet import Sheet  # noqa: PLC0415

    read = bundle.preprocessing.transforms[0]({"image": str(image)})["image"]
    affine = np.asarray(item["pred"].affine.cpu())
    mask, source, voxels = (
        cut_into_planes(np.asarray(one.as_tensor().cpu())[0], affine)
        for one in (item["pred"], item["source"], read)
    )
    sheet = Sheet(
        voxels=voxels.values,
        mask=mask.values.astype(np.uint8),
        affine_lps=mask.affine_lps,
        record=Record.from_json(item["grata"]),
        names=names,
        source=source.values.astype(np.uint8),
    )
    with atomic_path(target) as path:
        imsave(path, render_sheet(sheet))


def write_statistics(folder: Path, cases: Iterable[str]) -> None:
    """Write ``statistics.json`` and ``statistics.csv``: every segment of every case that is done.

    Args:
        folder: The output folder.
        cases: Names of all cases.
    """
    notes = {case: read_json(folder / NOTE.replace("{case}", case)) for case in sorted(cases)}
    sizes = {
        case: note["sizes"]
        for case, note in notes.items()
        if note.get("made_from", "") in _made_from(folder, case)
    }
    with atomic_path(folder / "statistics.json") as path:
        path.write_text(json.dumps(sizes, indent=2) + "\n", encoding="utf-8")
    with (
        atomic_path(folder / "statistics.csv") as path,
        path.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for case, segments in sizes.items():
            for segment, size in segments.items():
                writer.writerow({"case": case, "segment": segment, **size})


def _made_from(folder: Path, case: str) -> list[str]:
    """What the mask that is there now was made from, as a file and as DICOM objects."""
    record, inner = folder / f"{case}{RECORD_ENDING}", folder / case / RECORD
    written = read_written(record, "output"), read_written(inner, "dicom")
    return [part["made_from"] for part in written if part.get("made_from")]


def _measure(pred: Any, names: Mapping[int, str]) -> dict[str, dict[str, float]]:
    """Volume and diameters of every label, on the grid of the image as it was given."""
    planes = cut_into_planes(np.asarray(pred.as_tensor().cpu())[0], np.asarray(pred.affine.cpu()))
    labels = names or {int(label): f"segment {int(label)}" for label in np.unique(planes.values)}
    found = {}
    for number, name in labels.items():
        if number:
            size = measure_segment(planes.values, number, spacing=planes.spacing)
            values = size.volume_ml, size.long_axis_mm, size.depth_mm
            found[name] = dict(zip(COLUMNS[2:], (round(value, 3) for value in values), strict=True))
    return found
