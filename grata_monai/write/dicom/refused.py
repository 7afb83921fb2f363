"""Report the rejected volumes of a DICOM tree: in `refused.json`, and by the run's exit status."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ignite.engine import Engine

from grata_monai.core.errors import DicomError
from grata_monai.core.failures import CaseFailure, raise_if_any_failed
from grata_monai.core.files import Typed, atomic_path
from grata_monai.read.dicom.rejection import Reason
from grata_monai.read.dicom.triage import Triage
from grata_monai.write.commit import RUN_WAIT_SECONDS, claim, discard

__all__ = ["CODES", "list_barred", "raise_if_any_refused", "write_refused"]

CODES = {reason.value for reason in Reason}
"""Reason codes; a failure with one of them is a rejection."""


def write_refused(found: Triage, output_dir: Typed, failures: Iterable[CaseFailure] = ()) -> Path:
    """Write ``refused.json``: what triage refused, and what could not be decoded.

    What an earlier run wrote for a volume that is refused or has failed now is removed.

    Args:
        found: By `triage`.
        output_dir: Made if missing.
        failures: Of the run; those with a reason code are rejections too.

    Returns:
        The file.

    Raises:
        OutputError: If it cannot be written, or another process writes into the folder.
    """
    failures = tuple(failures)
    rows: list[dict[str, Any]] = [{**asdict(r), "reason": r.reason.value} for r in found.rejections]
    for failure in failures:
        if failure.reason in CODES:
            row = {"name": failure.case, "reason": failure.reason, "message": failure.message}
            rows.append({**row, "remedy": "", "instances": _count_instances(found, failure.case)})
    present = {volume.name for volume in found.volumes} - {failure.case for failure in failures}
    text = json.dumps({"refused": rows, "skipped": found.skipped}, indent=2, sort_keys=True)
    with claim(output_dir, wait_seconds=RUN_WAIT_SECONDS) as folder:
        path = folder / "refused.json"
        with atomic_path(path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
        for name in [*(r.name for r in found.rejections), *(f.case for f in failures)]:
            for part in (folder / name, *folder.glob(f"{name}_[0-9]*")):  # volumes of one series
                if part.name not in present:
                    discard(folder, part.name)
    return path


def raise_if_any_refused(
    engine: Engine,
    found: Triage,
    *,
    allow_refused: bool | Sequence[str] = False,
) -> None:
    """End a run with an error if a series was refused or a case failed, after the others are done.

    Args:
        engine: The evaluator, after its run.
        found: By `triage`.
        allow_refused: True allows every rejection, a list those with these reason codes.

    Raises:
        DicomError: Naming how many volumes were refused, and each with its reason code.
        CaseError: If a case failed otherwise.
    """
    state: Any = engine.state
    failures: list[CaseFailure] = getattr(state, "failures", [])
    barred = list_barred(found, failures, allow_refused=allow_refused)
    state.failures = [failure for failure in failures if failure.reason not in CODES]
    raise_if_any_failed(engine)
    if barred:
        names = "; ".join(f"{name}: {reason}" for name, reason in barred)
        raise DicomError(
            f"every series must be accepted, {len(barred)} refused ({names}). The others are done; "
            "refused.json says what to do. Give --allow_refused True, or a list of reason codes, "
            "to let a run end well in spite of them.",
            reason=barred[0][1],
        )


def list_barred(
    found: Triage,
    failures: Iterable[CaseFailure],
    *,
    allow_refused: bool | Sequence[str] = False,
) -> list[tuple[str, str]]:
    """List the refused volumes that must not let a run end well.

    Args:
        found: By `triage`.
        failures: Of the run; those with a reason code are rejections too.
        allow_refused: True allows every rejection, a list those with these reason codes.

    Returns:
        Name and reason code of each.
    """
    refused = [(r.name, r.reason.value) for r in found.rejections]
    refused += [(f.case, f.reason) for f in failures if f.reason in CODES]
    return [item for item in refused if not _is_allowed(item[1], allow_refused)]


def _is_allowed(reason: str, allow_refused: bool | Sequence[str]) -> bool:
    return allow_refused if isinstance(allow_refused, bool) else reason in allow_refused


def _count_instances(found: Triage, name: str) -> int:
    volumes = [volume for volume in found.volumes if volume.name == name]
    return len({frame.sop_instance_uid for volume in volumes for frame in volume.frames})
