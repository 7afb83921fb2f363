"""Turn the light amber where a series is not what the network was trained on."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from monai.transforms import Transform

from grata_monai.adapt.scores import Quality
from grata_monai.read.dicom.selection import MISMATCH
from grata_monai.read.dicom.volume import DicomVolume
from grata_monai.record import Record

__all__ = ["HeedMismatchesd"]


class HeedMismatchesd(Transform):
    """Add what triage noted about plane, body part and sequence to the verdict.

    Behind `LiftRecordd`. A mask whose views agree may still be of the wrong part: agreement cannot
    see it, DICOM's elements can.

    Args:
        volumes: What triage accepted; the case's name says which one it is.
        record_key: Of the record's JSON text.
    """

    def __init__(self, volumes: Sequence[DicomVolume], record_key: str = "grata") -> None:
        self.notes = {v.name: [n for n in v.notes if n.startswith(MISMATCH)] for v in volumes}
        self.record_key = record_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data; with a mismatch, the record's light is amber, or red as it was."""
        heeded = dict(data)
        notes = self.notes.get(str(data.get("case")))
        if notes:
            record = Record.from_json(heeded[self.record_key])
            light = record.verdict.light
            verdict = replace(
                record.verdict,
                light=light if light is Quality.RED else Quality.AMBER,
                reason="; ".join(filter(None, [record.verdict.reason, *notes])),
            )
            heeded[self.record_key] = replace(record, verdict=verdict).to_json()
        return heeded
