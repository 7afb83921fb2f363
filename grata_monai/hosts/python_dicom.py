"""The bundle's pipeline from Python: a DICOM tree in, a folder per accepted series out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grata_monai.bundle.open import Bundle, open_bundle
from grata_monai.bundle.shipped import find_shipped_bundle
from grata_monai.core.failures import CaseFailure, list_failures
from grata_monai.read.dicom.rejection import Rejection
from grata_monai.read.dicom.triage import Triage
from grata_monai.record import Record
from grata_monai.write.dicom.refused import write_refused
from grata_monai.write.resume import run_cases

__all__ = ["DicomResult", "DicomRun", "collect_run", "open_dicom", "run_dicom", "segment_dicom"]


@dataclass(frozen=True)
class DicomResult:
    """One segmented volume.

    Attributes:
        name: Of the volume, and of its folder.
        folder: Holds ``segmentation.dcm``, ``record.json`` and what else was asked.
        record: What was done to the case.
    """

    name: str
    folder: Path
    record: Record


@dataclass(frozen=True)
class DicomRun:
    """What became of a DICOM tree.

    Attributes:
        results: One per segmented volume.
        refusals: Of triage.
        failures: Volumes that could not be decoded or segmented, with the reason.
    """

    results: tuple[DicomResult, ...]
    refusals: tuple[Rejection, ...]
    failures: tuple[CaseFailure, ...]


def segment_dicom(
    folder: str | Path,
    output_dir: str | Path,
    *,
    bundle_dir: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    unverified: bool = False,
) -> DicomRun:
    """Segment every acceptable series below a folder with a bundle, as its dicom overlay does.

    Args:
        folder: DICOM files, in any tree.
        output_dir: Where a folder per volume and ``refused.json`` are written.
        bundle_dir: Root of the bundle; the one that belongs to this package if None.
        settings: Ids of the configuration and their values, for instance
            ``{"recipe": "paper", "dicom_output#also": ["report"]}``.
        unverified: Do not hold the bundle to its manifest; the record says so.

    Returns:
        What was segmented, refused, and failed; a refusal is no exception here.

    Raises:
        BundleError: If the bundle is not as its manifest says; nothing of it was parsed then.
        DatasetError: If the folder does not exist or holds no DICOM file.
        OutputError: If the output folder cannot be written.
        SettingError: If a setting has no id of the configuration.
    """
    bundle = open_dicom(
        folder,
        output_dir,
        bundle_dir=bundle_dir or find_shipped_bundle(),
        settings=settings,
        unverified=unverified,
    )
    return run_dicom(bundle, output_dir)


def run_dicom(bundle: Bundle, output_dir: str | Path) -> DicomRun:
    """Segment what an opened bundle finds.

    Args:
        bundle: By `open_dicom`, for this output folder.
        output_dir: Where a folder per volume and ``refused.json`` are written.

    Returns:
        What was segmented, refused, and failed.

    Raises:
        DatasetError: If the folder does not exist or holds no DICOM file.
        OutputError: If the output folder cannot be written.
    """
    found: Triage = bundle.get("triage")
    write_refused(found, output_dir)
    evaluator, pending = bundle.get("evaluator"), bundle.get("pending")
    run_cases(evaluator, cases=found.volumes, pending=pending, output_dir=output_dir)
    failures = tuple(list_failures(evaluator))
    write_refused(found, output_dir, failures)
    return collect_run(found, failures, output_dir)


def open_dicom(
    folder: str | Path,
    output_dir: str | Path,
    *,
    bundle_dir: str | Path,
    settings: Mapping[str, Any] | None = None,
    unverified: bool = False,
) -> Bundle:
    """Open a bundle with the dicom overlay. Nothing is built yet.

    Args:
        folder: DICOM files, in any tree.
        output_dir: Where results shall be written.
        bundle_dir: Root of the bundle.
        settings: Ids of the configuration and their values.
        unverified: Do not hold the bundle to its manifest; the record says so.

    Returns:
        The bundle, whose parts can be asked for.

    Raises:
        BundleError: If the bundle is not as its manifest says; nothing of it was parsed then.
        SettingError: If a setting has no id of the configuration.
    """
    places = {"dataset_dir": folder, "output_dir": output_dir}
    asked = {key: str(Path(value).absolute()) for key, value in places.items()}
    asked |= settings or {}
    return open_bundle(bundle_dir, ("dicom",), asked, unverified=unverified)


def collect_run(found: Triage, failures: Iterable[CaseFailure], output_dir: str | Path) -> DicomRun:
    """Collect what a run over a DICOM tree has written, refused, and not managed.

    Args:
        found: By `triage`.
        failures: Of the run.
        output_dir: Where the folders of the volumes are.

    Returns:
        Results in the order of triage.
    """
    failures = tuple(failures)
    failed = {failure.case for failure in failures}
    names = [volume.name for volume in found.volumes if volume.name not in failed]
    results = tuple(_read_result(Path(output_dir) / name) for name in names)
    return DicomRun(results=results, refusals=found.rejections, failures=failures)


def _read_result(folder: Path) -> DicomResult:
    text = (folder / "record.json").read_text(encoding="utf-8")
    return DicomResult(folder.name, folder, Record.from_json(text))
