"""List the volumes of a DICOM tree as the cases of a bundle's run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grata_monai.core.errors import DatasetError
from grata_monai.core.files import Typed, as_path
from grata_monai.phantom import make_case
from grata_monai.read.dicom.limits import Limits
from grata_monai.read.dicom.selection import Selection
from grata_monai.read.dicom.triage import Triage, triage

__all__ = ["list_volumes", "triage_dataset"]


def triage_dataset(
    dataset_dir: Typed | None,
    *,
    selection: Mapping[str, Any] | str | None = None,
    expected: Mapping[str, Any] | None = None,
    limits: Limits | None = None,
    phantom_dir: str | Path | None = None,
    output_dir: Typed | None = None,
) -> Triage:
    """Look through a folder of DICOM files, as a configuration asks for it.

    Args:
        dataset_dir: A folder tree or one file; None makes a phantom series.
        selection: Fields of `Selection`, or the path of a JSON file with them.
        expected: Likewise, what the network was trained on; another volume gets a note.
        limits: Of size, memory and time; the defaults if None.
        phantom_dir: Where the phantom is written if `dataset_dir` is None; ``phantom`` in
            `output_dir` if None.
        output_dir: Where the run will write.

    Returns:
        Volumes and rejections.

    Raises:
        DatasetError: If the path does not exist, or holds no DICOM file.
        ValueError: If a field of the selection is unknown or breaks its rule.
    """
    rules = (
        Selection.from_json(selection)
        if isinstance(selection, str)
        else Selection.from_dict(selection or {})
    )
    if dataset_dir is None:
        if phantom_dir is None and output_dir is not None:
            phantom_dir = as_path(output_dir, name="output_dir") / "phantom"
        dataset_dir = _write_phantom(phantom_dir)
    folder = as_path(dataset_dir, name="dataset_dir").expanduser()
    found = triage(
        folder, selection=rules, expected=Selection.from_dict(expected or {}), limits=limits
    )
    if not found.volumes and not found.rejections:
        raise DatasetError(
            "dataset_dir must hold DICOM files, it holds none "
            f"({found.skipped} other file(s) were skipped). Point dataset_dir to the folder of a "
            "series, a study, or a whole tree of them."
        )
    return found


def list_volumes(found: Triage) -> list[dict[str, str]]:
    """List what triage accepted as `list_cases` lists images.

    Args:
        found: By `triage`.

    Returns:
        One dictionary per volume: ``image`` and ``case`` (its name) and ``centre`` (empty).
    """
    return [{"image": v.name, "case": v.name, "centre": ""} for v in found.volumes]


def _write_phantom(folder: str | Path | None) -> Path:
    from grata_monai.phantom.dicom import write_series  # noqa: PLC0415  # only here

    if folder is None:
        raise DatasetError(
            "dataset_dir must be given, got none. Set dataset_dir to a folder of DICOM files."
        )
    case = make_case(0, shift="endorectal_coil")
    write_series(folder, case.image, case.affine_ras)
    return Path(folder)
