"""Run the bundle over everything that was given: image files first, then DICOM series."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grata_monai.bundle.open import Bundle, open_bundle
from grata_monai.core.errors import DatasetError, SettingError
from grata_monai.core.failures import CaseFailure, list_failures
from grata_monai.core.files import ensure_writable
from grata_monai.hosts.terminal.extras import NOTE, Extras, write_statistics
from grata_monai.hosts.terminal.inputs import tell_apart
from grata_monai.hosts.terminal.several import Plan, run_several
from grata_monai.spread import Workers
from grata_monai.write.resume import run_cases

if TYPE_CHECKING:
    from grata_monai.read.dicom.rejection import Rejection

__all__ = ["Asked", "Done", "segment_all"]

logger = logging.getLogger(__name__)

NIFTI_WRITER = {
    "_target_": "grata_monai.write.image.SaveImageAndRecordd",
    "keys": "pred",
    "output_dir": "@output_dir",
}


@dataclass(frozen=True)
class Asked:
    """What somebody asked for on the command line.

    Attributes:
        path: A file, folder, data list or tree of DICOM files.
        out: For results.
        bundle_dir: Root of the bundle.
        settings: Ids of the configuration and their values.
        only: ``dicom`` or ``nifti`` where only that shall be written; empty for like in, like out.
        preview: Whether to draw every case.
        statistics: Whether to write volumes and diameters.
        unverified: Do not hold the bundle to its manifest.
        workers: Who does it.
    """

    path: Path
    out: Path
    bundle_dir: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    only: str = ""
    preview: bool = False
    statistics: bool = False
    unverified: bool = False
    workers: Workers = field(default_factory=Workers)


@dataclass
class Done:
    """What became of it.

    Attributes:
        segmented: How many cases were segmented now.
        before: How many an earlier run of the same command had done.
        refusals: DICOM series that were refused.
        failures: Cases that failed.
        missing: How many of both must not let the run end well.
    """

    segmented: int = 0
    before: int = 0
    refusals: tuple["Rejection", ...] = ()
    failures: list[CaseFailure] = field(default_factory=list)
    missing: int = 0


def segment_all(asked: Asked) -> Done:
    """Segment every image and every acceptable DICOM series.

    Args:
        asked: By the command line.

    Returns:
        What became of them.

    Raises:
        BundleError: If the bundle is not as its manifest says.
        DatasetError: If there is nothing to segment, or results would lie among the input.
        OutputError: If the output folder cannot be written.
        SettingError: If a setting has no id of the configuration, or options exclude each other.
        KeyboardInterrupt: Saying how far it came, after Ctrl-C.
    """
    if asked.preview:
        import_module("matplotlib")  # an extra: missed before the first case rather than after it
    inputs, done = tell_apart(asked.path), Done()
    if inputs.overlooked:
        logger.warning(
            "%d image file(s) in deeper folders of IN are left out: images lie in IN itself, in "
            "images/, or in one folder per centre with images/ in it",
            inputs.overlooked,
        )
    _check(asked, has_images=inputs.has_images, has_dicom=inputs.has_dicom)
    ensure_writable(asked.out)
    names: list[str] = []
    if inputs.has_images:
        names += _segment_images(asked, done)
    if inputs.has_dicom:
        names += _segment_dicom(asked, done)
    if asked.statistics:
        write_statistics(asked.out, names)
    return done


def _check(asked: Asked, *, has_images: bool, has_dicom: bool) -> None:
    if asked.only == "dicom" and has_images:
        raise SettingError(
            "--dicom must have DICOM series only, IN holds images: a DICOM object needs the "
            "patient and study of a series. Leave it out, or point IN to the series."
        )
    if not has_dicom:
        return
    if asked.only == "nifti" and asked.preview:
        raise SettingError(
            "--preview must not stand beside --nifti where DICOM series are segmented: a picture "
            "of a patient belongs into a DICOM object. Leave one of them out."
        )
    if asked.out.resolve().is_relative_to(asked.path.expanduser().resolve()):
        raise DatasetError(
            "OUT must lie outside of the DICOM folder IN, it lies inside: results would be found "
            "as series the next time. Choose another OUT."
        )


def _segment_images(asked: Asked, done: Done) -> list[str]:
    is_noted = asked.preview or asked.statistics
    settings = {**asked.settings, **_keep_notes(is_noted)}
    if asked.preview:
        settings |= {"inferer#keep_source": True, "masks": ["pred", "source"]}
    settings |= {"dataset_dir": str(asked.path), "output_dir": str(asked.out.absolute())}
    bundle = open_bundle(asked.bundle_dir, (), settings, unverified=asked.unverified)
    plan = Plan(partial(open_bundle, asked.bundle_dir, (), settings, unverified=asked.unverified))
    names = _run(bundle, asked, done, plan, preview=asked.preview)
    done.missing += len(done.failures)
    return names


def _segment_dicom(asked: Asked, done: Done) -> list[str]:
    from grata_monai.hosts.python_dicom import open_dicom  # noqa: PLC0415  # needs the extra
    from grata_monai.write.dicom.refused import CODES, list_barred, write_refused  # noqa: PLC0415

    settings = {**asked.settings, **_keep_notes(asked.statistics)}
    if asked.only == "nifti":
        settings["writer"] = NIFTI_WRITER
    also = {"capture": asked.preview, "measurements": asked.statistics}
    if asked.only != "nifti" and any(also.values()):
        settings.setdefault("dicom_output#also", [name for name, on in also.items() if on])
    opened = partial(
        open_dicom,
        asked.path,
        asked.out,
        bundle_dir=asked.bundle_dir,
        settings=settings,
        unverified=asked.unverified,
    )
    bundle = opened()
    found = bundle.get("triage")
    write_refused(found, asked.out)
    known = len(done.failures)
    names = _run(bundle, asked, done, Plan(opened, {"triage": found}), preview=False)
    failures = done.failures[known:]
    write_refused(found, asked.out, failures)
    done.refusals = found.rejections
    allowed = bundle.get("allow_refused")
    done.missing += len(list_barred(found, failures, allow_refused=allowed))
    done.missing += sum(failure.reason not in CODES for failure in failures)
    return names


def _keep_notes(is_noted: bool) -> dict[str, Any]:
    """Settings by which a case without its note is not done; set before triage, not after it."""
    return {"pending#notes": [NOTE]} if is_noted else {}


def _run(bundle: Bundle, asked: Asked, done: Done, plan: Plan, *, preview: bool) -> list[str]:
    """Run the bundle's evaluator over the cases that are not done yet; give the names of all."""
    images = {case["case"]: Path(case["image"]) for case in bundle.get("cases")}
    pending = bundle.get("pending")
    done.before += len(images) - len(pending)
    if not pending:
        return list(images)
    is_noted = preview or asked.statistics
    extras = partial(Extras, folder=asked.out, images=images, preview=preview) if is_noted else None
    if not asked.workers.is_one and bundle.get("inferer").memory is not None:
        raise SettingError(
            "--workers must not stand beside an inferer's memory, which goes from case to case. "
            "Leave one of them out."
        )
    if asked.workers.is_one:
        evaluator = bundle.get("evaluator")
        if extras is not None:
            extras(bundle).attach(evaluator)
        run_cases(evaluator, cases=bundle.get("cases"), pending=pending, output_dir=asked.out)
        failures = list_failures(evaluator)
    else:
        plan = replace(plan, extras=extras, has_index=bool(bundle.get("report")))
        failures = run_several(plan, pending, asked.out, asked.workers)
    done.failures += failures
    done.segmented += len(pending) - len(failures)
    return list(images)
