"""After every case: draw its preview, measure its segments, and note that it is done."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events

from grata_monai.bundle.open import Bundle
from grata_monai.core.failures import CaseFailure, report_failure
from grata_monai.core.files import atomic_path
from grata_monai.hosts.terminal.ledger import Ledger
from grata_monai.record import Record
from grata_monai.write.pictures.planes import cut_into_planes
from grata_monai.write.pictures.sizes import measure_segment

__all__ = ["Extras", "draw_preview", "name_labels", "write_statistics"]

COLUMNS = ("case", "segment", "volume_ml", "long_axis_mm", "depth_mm")


class Extras:
    """A handler of the bundle's evaluator.

    Args:
        bundle: Whose labels have names, and whose first transform reads an image.
        ledger: Where cases that are done are noted.
        files: Of every case, by its name: what it is read from.
        preview: Whether to draw ``<case>_preview.png``, for cases that are image files.
    """

    def __init__(
        self,
        bundle: Bundle,
        ledger: Ledger,
        *,
        files: Mapping[str, list[Path]],
        preview: bool,
    ) -> None:
        self.bundle, self.ledger, self.files, self.preview = bundle, ledger, files, preview

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
        written = _list_written(item)
        if self.preview:
            written.append(self.ledger.folder / f"{case}_preview.png")
            image = self.files[case][0]
            draw_preview(item, self.bundle, image, written[-1], names=name_labels(self.bundle))
        sizes = _measure(item["pred"], name_labels(self.bundle))
        self.ledger.add(case, files=self.files[case], written=written, sizes=sizes)


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


def write_statistics(folder: Path, cases: Mapping[str, Mapping[str, Any]]) -> None:
    """Write ``statistics.json`` and ``statistics.csv``: every segment of every case that is done.

    Args:
        folder: The output folder.
        cases: Of ledgers.
    """
    sizes = {case: entry["sizes"] for case, entry in sorted(cases.items())}
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


def _list_written(item: Mapping[str, Any]) -> list[Path]:
    """What the bundle's writer wrote: two files, or a folder of DICOM objects."""
    if "output_folder" in item:
        return sorted(path for path in Path(item["output_folder"]).iterdir() if path.is_file())
    return [Path(item["mask_file"]), Path(item["record_file"])]


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
