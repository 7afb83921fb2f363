"""A series of another part, plane or sequence has an amber light, and the reason with it."""

from dataclasses import replace

import pytest
from reported import GREEN, RED

from grata_monai.read.dicom.selection import Selection, note_mismatches
from grata_monai.record import Record
from grata_monai.record.sentences import describe_record
from grata_monai.write.dicom.mismatches import HeedMismatchesd

EXPECTED = Selection(orientation="axial", body_part=("PROSTATE",), description="t2")


def heed(volume, record):
    (noted,) = note_mismatches([volume], EXPECTED)
    heeded = HeedMismatchesd([noted])({"case": volume.name, "grata": record.to_json()})
    return Record.from_json(heeded["grata"])


@pytest.mark.parametrize(
    ("plane", "element", "value", "what"),
    [
        ("coronal", "body_part", "PROSTATE", "orientation, which is axial; it has coronal"),
        ("axial", "body_part", "KNEE", "body_part, which is PROSTATE; it has another"),
        ("axial", "description", "dwi b800", "description, which is t2; it has another"),
    ],
)
def test_a_mismatch_takes_green_away_and_says_why(make_volume, plane, element, value, what):
    record = heed(replace(make_volume(plane), **{element: value}), GREEN)
    assert record.verdict.light == "amber"
    assert record.verdict.reason == f"adapted; the network was trained on another {what}"
    assert record.outcome == GREEN.outcome
    assert describe_record(record).startswith("AMBER, look closely.")


def test_red_stays_red_and_a_series_as_expected_stays_as_it_is(make_volume):
    assert heed(make_volume("coronal"), RED).verdict.light == "red"
    fits = replace(make_volume(), body_part="PROSTATE", description="ax T2 TSE")
    assert heed(fits, GREEN) == GREEN
    assert heed(make_volume(), GREEN) == GREEN, "what a series does not say is no mismatch"
