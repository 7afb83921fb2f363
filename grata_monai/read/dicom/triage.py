"""Triage a folder tree: list its acceptable volumes, and what is rejected, why, and what to do.

Headers are read in a sandbox; pixels are never decoded.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from grata_monai.core.errors import DicomError
from grata_monai.read.dicom.discover import Tree, discover
from grata_monai.read.dicom.headers import Header, read_headers
from grata_monai.read.dicom.limits import Limits
from grata_monai.read.dicom.rejection import Reason, Rejection, reject
from grata_monai.read.dicom.selection import Selection, note_mismatches, select
from grata_monai.read.dicom.series import hash_name, judge_series
from grata_monai.read.dicom.volume import DicomVolume

__all__ = ["Triage", "render_table", "triage"]

logger = logging.getLogger(__name__)

SCHEMA_VERSION = "1.0"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Triage:
    """What a folder tree holds.

    Attributes:
        volumes: Accepted, ordered by name.
        rejections: Ordered by name.
        skipped: How many files are no DICOM; DICOMDIR files are not counted.
        places: Folder and SeriesDescription of every series, by the names of what was found in it.
            They may name the patient: for a terminal, never for a log or a file.
    """

    volumes: tuple[DicomVolume, ...]
    rejections: tuple[Rejection, ...]
    skipped: int
    places: Mapping[str, tuple[str, str]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def refusals(self) -> tuple[Rejection, ...]:
        """The rejections, by the name that configurations of published bundles use."""
        return self.rejections

    def to_json(self, *, phi: str = "hash") -> str:
        """Write as JSON text.

        Args:
            phi: ``hash`` leaves out UIDs; ``keep`` writes those of study, series and frame of
                reference. Paths, descriptions and other texts are never written.

        Returns:
            One object; the same content gives the same text.

        Raises:
            ValueError: If `phi` is neither.
        """
        if phi not in ("hash", "keep"):
            raise ValueError(f"phi must be 'hash' or 'keep', got {phi!r}.")
        content = {
            "schema_version": SCHEMA_VERSION,
            "volumes": [_describe(volume, keep=phi == "keep") for volume in self.volumes],
            "refusals": [{**asdict(r), "reason": r.reason.value} for r in self.rejections],
            "skipped": self.skipped,
        }
        return json.dumps(content, indent=2, sort_keys=True)


def triage(
    path: str | Path,
    *,
    selection: Selection | None = None,
    expected: Selection | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> Triage:
    """Look through a folder tree.

    Args:
        path: A folder, or one file; names and extensions do not matter.
        selection: Rules that an accepted volume must meet.
        expected: What the network was trained on; where a volume is otherwise, a note says so.
        limits: What untrusted files may cost.
        progress: Called after each file with how many are done, and how many there are.

    Returns:
        Volumes and rejections; they do not depend on the files' names and order.

    Raises:
        DatasetError: If the path does not exist.
    """
    rules, limits = selection or Selection(), limits or Limits()
    tree = discover(Path(path))
    series: dict[str, list[Header]] = {}
    failures: list[tuple[Path, DicomError]] = [(folder, _closed()) for folder in tree.closed]
    failures += [(link, _outside()) for link in tree.outside]
    skipped = tree.special
    found = read_headers(tree.files, limits=limits, progress=progress)
    for file, header in zip(tree.files, found, strict=True):
        if isinstance(header, Header):
            series.setdefault(header.series_uid, []).append(header)
        elif isinstance(header, DicomError):
            failures.append((file, header))
        else:
            skipped += header == "foreign"
    volumes: list[DicomVolume] = []
    rejections = _reject_files(failures, tree)
    places: dict[str, tuple[str, str]] = {}
    for headers in series.values():
        accepted, refused = judge_series(
            headers, require_frame_of_reference=rules.require_frame_of_reference, limits=limits
        )
        volumes += accepted
        rejections += refused
        place = str(Path(tree.relative(headers[0].file)).parent), headers[0].description
        names = [volume.name for volume in accepted] + [one.name for one in refused]
        places |= dict.fromkeys(names, place)
    kept, passed_over = select(_note_failures(volumes, failures), rules)
    kept = note_mismatches(kept, expected or Selection())
    result = replace(_sort(kept, [*rejections, *passed_over], skipped), places=places)
    logger.info(
        "%d volumes accepted, %d refused, %d files are no DICOM",
        *(len(result.volumes), len(result.rejections), skipped),
    )
    return result


def render_table(found: Triage, *, has_places: bool = False) -> Table:
    """Make a table with one line per volume.

    Args:
        found: By `triage`.
        has_places: Whether to say folder and description too, which may name the patient: for a
            person at a terminal.

    Returns:
        For `rich.print`; without places it holds no identifier.
    """
    headings = ("volume", *(("where",) if has_places else ()), "verdict", "what", "what to do")
    caption = f"{found.skipped} file(s) are no DICOM" if found.skipped else None
    table = Table(*headings, title="DICOM triage", caption=caption)

    def tell_place(name: str) -> list[str]:
        where = filter(None, found.places.get(name, ()))
        return [escape(": ".join(where))] if has_places else []

    for volume in found.volumes:
        shape = " × ".join(map(str, volume.spatial_shape))
        spacing = " × ".join(f"{value:.4g}" for value in _spacing(volume))
        what = "; ".join((f"{volume.modality}, {shape}, {spacing} mm", *volume.notes))
        place = tell_place(volume.name)
        table.add_row(volume.name, *place, "[green]accepted[/green]", what, "")
    for rejection in found.rejections:
        what = f"{rejection.message} ({rejection.instances} instance(s))"
        verdict, place = f"[red]{rejection.reason.value}[/red]", tell_place(rejection.name)
        table.add_row(rejection.name, *place, verdict, what, rejection.remedy)
    return table


def _describe(volume: DicomVolume, *, keep: bool) -> dict[str, Any]:
    uids = {
        "study_uid": volume.study_uid,
        "series_uid": volume.series_uid,
        "frame_of_reference_uid": volume.frame_of_reference_uid,
    }
    return {
        "name": volume.name,
        "study": hash_name("study", volume.study_uid),
        "modality": volume.modality,
        "spatial_shape": list(volume.spatial_shape),
        "spacing_mm": [round(value, 6) for value in _spacing(volume)],
        "affine_ras": volume.affine_ras.tolist(),
        "tilt_degrees": round(volume.tilt_degrees, 3),
        "transfer_syntax_uids": list(volume.transfer_syntax_uids),
        "sop_class_uid": volume.sop_class_uid,
        "notes": list(volume.notes),
        **(uids if keep else {}),
    }


def _spacing(volume: DicomVolume) -> tuple[float, float, float]:
    """Between columns, rows and planes, mm."""
    return volume.column_spacing, volume.row_spacing, volume.slice_spacing


def _closed() -> DicomError:
    return reject(Reason.UNREADABLE, "Folder must be open to the user who runs this, it is not.")


def _outside() -> DicomError:
    return reject(
        Reason.UNREADABLE, "Link must stay within the folder that is looked through, it leads out."
    )


def _reject_files(failures: Iterable[tuple[Path, DicomError]], tree: Tree) -> list[Rejection]:
    """One rejection for files of one folder that fail alike; their series are not known."""
    groups: dict[tuple[Path, str, str], list[Path]] = {}
    for file, error in failures:
        groups.setdefault((file.parent, error.reason, str(error)), []).append(file)
    return [
        Rejection.from_error(
            DicomError(message, reason=reason),
            name=hash_name("file", tree.relative(files[0])),
            instances=len(files),
        )
        for (_, reason, message), files in groups.items()
    ]


def _note_failures(
    volumes: Iterable[DicomVolume], failures: Iterable[tuple[Path, DicomError]]
) -> list[DicomVolume]:
    """Say on a volume that files beside its own could not be read: they may belong to it."""
    counts = Counter(file.parent for file, _ in failures)
    noted = []
    for volume in volumes:
        count = sum(counts[folder] for folder in {frame.file.parent for frame in volume.frames})
        note = f"{count} file(s) beside it could not be read: slices at its ends may be missing"
        noted.append(replace(volume, notes=(*volume.notes, note)) if count else volume)
    return noted


def _sort(volumes: Iterable[DicomVolume], rejections: Iterable[Rejection], skipped: int) -> Triage:
    return Triage(
        volumes=tuple(sorted(volumes, key=lambda volume: volume.name)),
        rejections=tuple(sorted(rejections, key=lambda r: (r.name, r.reason.value, r.message))),
        skipped=skipped,
    )
